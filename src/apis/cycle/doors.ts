import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Inside, Instance } from '#cloud/cloud.ts'
import { replicaOf } from '#apis/inside.ts'
import { passesAgain } from '#apis/remembered-answers.ts'
import { refusal } from './errors.ts'

const INSTANCE = 'cycleInstance'
const TOKEN_HEADER = 'x-cycle-token'

/** The instance that asks. */
export const instanceOf = (request: FastifyRequest): Instance => request.getDecorator<Instance>(INSTANCE)

/**
 * The instance that a request's token stands for; it must be the one whose socket the request came by (contract section
 * 1.2). Undefined without a token.
 */
async function tokenBearer(inside: Inside, request: FastifyRequest): Promise<Instance | undefined> {
  const token = request.headers[TOKEN_HEADER]
  if (typeof token !== 'string' || token === '') return undefined
  const it = await inside.authenticate(token)
  if (it === 'expired')
    throw refusal('401.auth-expired', 'The instance of this token is gone, or runs in a new container since.')
  if (it?.replica.id !== replicaOf(request.raw.socket))
    throw refusal('401.auth-invalid', 'This is not the token of the instance whose socket this is.')
  return it
}

/** Every route of the scope is for the instance that `find` gives, which refuses where there is none. */
function admit(app: FastifyInstance, find: (request: FastifyRequest) => Promise<Instance>): void {
  app.decorateRequest(INSTANCE, null)
  app.addHook('onRequest', async (request) => {
    if (!request.is404) request.setDecorator(INSTANCE, await find(request))
  })
}

/** Every route of the scope needs the token of the socket's own instance. */
export const admitInstances = (app: FastifyInstance, inside: Inside): void =>
  admit(app, async (request) => {
    const it = await tokenBearer(inside, request)
    if (!it)
      throw refusal('401.auth-invalid', 'Send the value of CYCLE_API_TOKEN in the header X-CYCLE-TOKEN.')
    // Whom the token stands for is of the records alone.
    passesAgain(request, () => true)
    return it
  })

/** Every route of the scope needs the token, or takes a name and password in its stead: then the socket names the instance. */
export const admitLogins = (app: FastifyInstance, inside: Inside): void =>
  admit(app, async (request) => {
    const it = await tokenBearer(inside, request)
    if (it) return it
    const own = replicaOf(request.raw.socket)
    const isBasic = /^Basic /i.test(request.headers.authorization ?? '')
    const named = isBasic && own !== undefined ? await inside.instance(own) : undefined
    if (!named) throw refusal('401.auth-invalid', 'Send X-CYCLE-TOKEN or Authorization: Basic.')
    return named
  })
