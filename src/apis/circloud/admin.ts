import Type from 'typebox'
import type { Cloud } from '#cloud/cloud.ts'
import { originOf } from './doors.ts'
import { refusals, said, timestamp, Timestamp, Uuid, type App } from './schema.ts'

const LoginRequest = Type.Object(
  {
    username: Type.String({ minLength: 1, maxLength: 256 }),
    password: Type.String({ minLength: 1, maxLength: 1024, writeOnly: true }),
  },
  { examples: [{ username: 'admin', password: 's3cret' }] },
)
const AdminUser = Type.Object({
  id: Uuid,
  username: Type.String(),
  api_token: Type.String(),
  created_at: Type.Optional(Timestamp),
})

export function adminRoutes(app: App, cloud: Cloud): void {
  app.post(
    '/admin/login',
    {
      schema: {
        operationId: 'adminLogin',
        tags: ['admin'],
        summary: 'Exchange admin credentials for the admin API token',
        security: [],
        body: LoginRequest,
        response: {
          200: said(AdminUser, 'The admin user, including `api_token` to be used as `X-Admin-Token`.'),
          ...refusals(400, 401),
        },
      },
    },
    async (request, reply) => {
      const { username, password } = request.body
      const { user, token } = await cloud.login({ username, password, admin: true }, originOf(request))
      return reply
        .code(200)
        .send({ id: user.id, username: user.name, api_token: token, created_at: timestamp(user.createdAt) })
    },
  )
}
