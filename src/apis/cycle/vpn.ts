import Type from 'typebox'
import type { App } from '#apis/app.ts'
import type { Inside } from '#cloud/cloud.ts'
import { answers } from './answers.ts'
import { instanceOf } from './doors.ts'
import { refusal } from './errors.ts'

const LOGIN_BYTES_MAX = 4096

/** The name and password of an Authorization header; the password may hold colons. */
function loginOf(header: string | undefined): { username: string; password: string } {
  const [, encoded = ''] = /^Basic +([A-Za-z0-9+/_-]+=*) *$/i.exec(header ?? '') ?? []
  const text = Buffer.from(encoded, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  if (colon < 0 || encoded.length > LOGIN_BYTES_MAX)
    throw refusal('422.missing-argument', 'Send Authorization: Basic with username:password in base64.')
  return { username: text.slice(0, colon), password: text.slice(colon + 1) }
}

/** In a scope that admits a login without a token. */
export function vpnRoutes(app: App, inside: Inside): void {
  app.post(
    '/v1/vpn/login',
    {
      schema: {
        tags: ['VPN'],
        operationId: 'validateVPNLogin',
        summary: "Whether a name and password open the environment's VPN",
        description:
          'With a token it names the environment; with Authorization: Basic alone the socket does. Too many wrong tries of one name are refused for a while, right ones among them.',
        security: [{ tokenAuth: [] }, { basicAuth: [] }],
        response: {
          ...answers(Type.Literal(true), 'They do.'),
          403: Type.Object({ data: Type.Literal(false) }, { description: 'They do not.' }),
        },
      },
    },
    async (request, reply) => {
      const login = loginOf(request.headers.authorization)
      const isRight = await inside.vpnLogin(instanceOf(request), login)
      return isRight
        ? await reply.code(200).send({ data: true as const })
        : await reply.code(403).send({ data: false as const })
    },
  )
}
