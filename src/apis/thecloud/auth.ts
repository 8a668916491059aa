import type { FastifyRequest } from 'fastify'
import Type from 'typebox'
import { CloudError } from '#lib/errors.ts'
import { originOf } from './doors.ts'
import { type Frame, operation } from './operation.ts'
import { Email, Message, Text, timestamp, Uuid } from './schema.ts'
import { encodeUser, User } from './users.ts'

const Password = Type.String({ minLength: 8, maxLength: 72, writeOnly: true })
const FORM_BYTES_MAX = 16_384
const common = { tag: 'Auth', tenancy: 'none' as const }

export function authRoutes(frame: Frame): void {
  const { cloud } = frame
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/auth/register',
    id: 'register',
    summary: 'Make a user with a tenant of its own',
    guesses: true,
    body: Type.Object({
      email: Email,
      password: Password,
      name: Type.String({ minLength: 2, maxLength: 100 }),
    }),
    answer: Type.Object({
      ...User.properties,
      message: Type.Literal('user created successfully'),
      user_id: Uuid,
    }),
    status: 201,
    refuses: [403, 409],
    async run({ body, request }) {
      const { user, tenant } = await cloud.accounts.register(body, originOf(request))
      const message = 'user created successfully' as const
      return { ...encodeUser(user, tenant.id), message, user_id: user.id }
    },
  })
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/auth/login',
    id: 'login',
    summary: 'One more key for an e-mail and a password',
    guesses: true,
    body: Type.Object({
      email: Email,
      password: Type.String({ minLength: 1, maxLength: 72, writeOnly: true }),
    }),
    answer: Type.Object({ user: User, api_key: Type.String() }),
    refuses: [401],
    async run({ body, request, reply }) {
      const { user, tenant, key } = await cloud.accounts.login(body, originOf(request))
      void reply.header('cache-control', 'no-store')
      return { user: encodeUser(user, tenant), api_key: key }
    },
  })
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/auth/forgot-password',
    id: 'forgotPassword',
    summary: 'Ask for what resets a password; the answer does not tell whether the e-mail is known',
    guesses: true,
    body: Type.Object({ email: Email }),
    answer: Message('If the email exists, a reset token has been sent.'),
    async run({ body, request }) {
      await cloud.accounts.forgot(body.email, originOf(request))
      return { message: 'If the email exists, a reset token has been sent.' as const }
    },
  })
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/auth/reset-password',
    id: 'resetPassword',
    summary: 'A new password for what was sent; once, and within an hour',
    guesses: true,
    body: Type.Object({ token: Text(256, { writeOnly: true }), new_password: Password }),
    answer: Message('password updated successfully'),
    async run({ body: { token, new_password: password }, request }) {
      await cloud.accounts.reset({ token, password }, originOf(request))
      return { message: 'password updated successfully' as const }
    },
  })
  operation(frame, {
    tag: 'Auth',
    method: 'GET',
    path: '/auth/me',
    id: 'whoAmI',
    summary: 'Who the key stands for',
    tenancy: 'optional',
    answer: User,
    refuses: [404],
    run: async ({ caller }) => {
      const { user, id, name, role, createdAt, updatedAt } = await cloud.whoIs(caller)
      if (user) return encodeUser(user, caller.tenant)
      const times = { created_at: timestamp(createdAt), updated_at: timestamp(updatedAt) }
      return { id, tenant_id: caller.tenant, email: '', name, role, ...times }
    },
  })
  void frame.app.register(async (scope) => {
    // The one operation that takes a form; of either kind, as OAuth clients send it.
    const forms = /^(application\/x-www-form-urlencoded|multipart\/form-data)(;|$)/i
    scope.addContentTypeParser(
      forms,
      { parseAs: 'buffer', bodyLimit: FORM_BYTES_MAX },
      async ({ headers }: FastifyRequest, body: Buffer) => {
        try {
          const type = headers['content-type'] ?? ''
          const form = await new Response(new Uint8Array(body), {
            headers: { 'content-type': type },
          }).formData()
          return Object.fromEntries([...form].filter(([, value]) => typeof value === 'string'))
        } catch (error) {
          throw new CloudError('invalid', 'Body is not a valid form', {}, error)
        }
      },
    )
    tokenRoute({ ...frame, app: scope.withTypeProvider() })
    await Promise.resolve()
  })
}

function tokenRoute(frame: Frame): void {
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/oauth2/token',
    id: 'oauthToken',
    summary: 'A token for a service account that shows its secret',
    guesses: true,
    form: true,
    body: Type.Object({
      grant_type: Type.Literal('client_credentials'),
      client_id: Uuid,
      client_secret: Text(256, { writeOnly: true }),
    }),
    answer: Type.Object({
      access_token: Type.String(),
      token_type: Type.Literal('Bearer'),
      expires_in: Type.Integer(),
    }),
    refuses: [401],
    async run({ body, request, reply }) {
      const origin = originOf(request)
      const { token, seconds } = await frame.cloud.grant(body.client_id, body.client_secret, origin)
      void reply.header('cache-control', 'no-store')
      return { access_token: token, token_type: 'Bearer' as const, expires_in: seconds }
    },
  })
}
