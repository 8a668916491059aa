import { Agent } from 'node:https'
import type { Authorization, Client } from 'acme-client'
import { CloudError, messageOf } from '#lib/errors.ts'
import type { AcmeAccount, AcmeDriver, Challenge, Publish } from '#cloud/edge/issuer.driver.ts'

const REQUEST_MS_MAX = 20_000
const REQUEST_TRIES_MAX = 2
/** How often, and how long apart, the authority is asked whether it is done. */
const POLLS_MAX = 15
const POLL_MS_MIN = 500
const POLL_MS_MAX = 10_000

// Loaded when an authority has to be asked; most installations never do.
const library = async () => (await import('acme-client')).default
type Library = Awaited<ReturnType<typeof library>>
type Given = Pick<AcmeAccount, 'directory' | 'trust'> & {
  readonly key: string
  readonly account?: string
  readonly binding?: { readonly keyId: string; readonly hmacKey: string }
}

/** Connections to an authority, and what the last of them failed with. */
function createConnections(trust: string | undefined) {
  const agent = new Agent({ keepAlive: false, ...(trust === undefined ? {} : { ca: trust }) })
  const connect = agent.createConnection.bind(agent)
  let failure: Error | undefined
  agent.createConnection = (...args) => {
    failure = undefined
    const socket = connect(...args)
    socket?.once('error', (error: Error) => (failure = error))
    return socket
  }
  return { agent, failure: () => failure }
}

type Opened = { readonly client: Client; readonly refusal: (what: string, error: unknown) => CloudError }

function open(acme: Library, { directory, key, account, binding, trust }: Given): Opened {
  const connections = createConnections(trust)
  // The library has one HTTP client for all; an installation has one authority.
  const { defaults } = acme.axios
  defaults.timeout = REQUEST_MS_MAX
  defaults.httpsAgent = connections.agent
  Object.assign((defaults as { acmeSettings?: object }).acmeSettings ?? {}, {
    retryMaxAttempts: REQUEST_TRIES_MAX,
    retryDefaultDelay: 1,
  })
  const client = new acme.Client({
    directoryUrl: directory,
    accountKey: key,
    ...(account === undefined ? {} : { accountUrl: account }),
    ...(binding ? { externalAccountBinding: { kid: binding.keyId, hmacKey: binding.hmacKey } } : {}),
    backoffAttempts: POLLS_MAX,
    backoffMin: POLL_MS_MIN,
    backoffMax: POLL_MS_MAX,
  })
  return {
    client,
    // What the authority said, in words; it never repeats keys. Where nobody answered, the library stumbles over the
    // answer that is not there.
    refusal(what, error) {
      const silent = connections.failure()?.message ?? `no answer within ${REQUEST_MS_MAX / 1000} s`
      const why = error instanceof TypeError ? silent : messageOf(error)
      return new CloudError('unavailable', `the authority ${what}: ${why}`, {}, error)
    },
  }
}

type Answered = Authorization['challenges'][number] & { readonly shown: Challenge }

/** The challenge of one authorization that is to be answered; undefined when it is valid already. */
async function answer(
  client: Client,
  it: Authorization,
  type: Challenge['type'],
): Promise<Answered | undefined> {
  if (it.status === 'valid') return undefined
  const hostname = it.identifier.value
  const found = it.challenges.find((one) => one.type === type)
  if (!found) {
    const offered = it.challenges.map((one) => one.type).join(', ')
    throw new CloudError('unsupported', `the authority offers no ${type} for ${hostname}, only ${offered}`)
  }
  const text = await client.getChallengeKeyAuthorization(found)
  const shown: Challenge =
    type === 'http-01'
      ? { type, hostname, token: found.token, answer: text }
      : { type, hostname, record: `_acme-challenge.${hostname}`, value: text }
  return { ...found, shown }
}

/** Ends a wait when the signal aborts; the library's own calls end at their limits. */
async function within<R>(work: Promise<R>, signal: AbortSignal): Promise<R> {
  const { promise, reject } = Promise.withResolvers<never>()
  const stop = (): void => reject(signal.reason as Error)
  signal.addEventListener('abort', stop, { once: true })
  work.catch(() => {})
  try {
    return await Promise.race([work, promise])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

/** Certificates from authorities that speak ACME. */
export const acmeDriver = (): AcmeDriver => ({
  async register({ email, key: given, ...input }, signal) {
    const acme = await library()
    const key = given ?? String(await acme.crypto.createPrivateEcdsaKey())
    const { client, refusal } = open(acme, { ...input, key })
    try {
      const contact = email === undefined ? {} : { contact: [`mailto:${email}`] }
      await within(client.createAccount({ termsOfServiceAgreed: true, ...contact }), signal)
    } catch (error) {
      if (signal.aborted) throw error
      throw refusal('gave no account', error)
    }
    return { key, account: client.getAccountUrl() }
  },

  async issue(account, { names, challenge }, publish, signal) {
    const acme = await library()
    const { client, refusal } = open(acme, account)
    const step = async <R>(what: string, work: Promise<R>): Promise<R> => {
      try {
        return await within(work, signal)
      } catch (error) {
        if (signal.aborted || error instanceof CloudError) throw error
        throw refusal(what, error)
      }
    }
    const identifiers = names.map((value) => ({ type: 'dns', value }))
    const order = await step('took no order', client.createOrder({ identifiers }))
    const all = await step('gave no authorizations', client.getAuthorizations(order))
    const asked: Answered[] = []
    for (const it of all) {
      const one = await step('gave no challenge', answer(client, it, challenge))
      if (one) asked.push(one)
    }
    await prove(client, asked, publish, step)
    const [key, csr] = await acme.crypto.createCsr(
      { commonName: names[0] ?? '', altNames: [...names] },
      await acme.crypto.createPrivateEcdsaKey(),
    )
    const done = await step('did not finish the order', client.finalizeOrder(order, csr))
    return { key: String(key), chain: await step('gave no certificate', client.getCertificate(done)) }
  },
})

type Step = <R>(what: string, work: Promise<R>) => Promise<R>

async function prove(
  client: Client,
  asked: readonly Answered[],
  publish: Publish,
  step: Step,
): Promise<void> {
  if (!asked.length) return
  try {
    await publish(asked.map((it) => it.shown))
    for (const it of asked) await step('refused an answer', client.completeChallenge(it))
    for (const it of asked)
      await step(`did not accept that ${it.shown.hostname} is ours`, client.waitForValidStatus(it))
  } finally {
    await publish([])
  }
}
