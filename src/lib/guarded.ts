import { lookup as resolve, type LookupAddress } from 'node:dns'
import type { IncomingMessage } from 'node:http'
import { request as tlsRequest } from 'node:https'
import { BlockList, isIP, type LookupFunction } from 'node:net'
import { CloudError } from './errors.ts'
import { request as plainRequest } from './http.ts'

/** What an address that a tenant named is asked. */
export type GuardedOpening = {
  readonly url: string
  readonly method?: 'GET' | 'POST'
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

/** The same, and how long and long-winded its answer may be. */
export type GuardedRequest = GuardedOpening & {
  readonly timeoutMs: number
  /** Of the answer's body; more is refused. */
  readonly bytesMax: number
}
export type GuardedAnswer = { readonly status: number; readonly body: string }

/**
 * Asks addresses that tenants name. What only this machine and its owner's networks should reach is refused, whatever
 * name leads there, and again at every redirect. Throws `invalid` for what may not be asked and `unavailable` for what
 * does not answer well, never with anything of the answer.
 */
export type GuardedClient = (how: GuardedRequest, signal?: AbortSignal) => Promise<GuardedAnswer>

/**
 * The same for what is too large to be held: gives the answer, after redirects, as soon as its head is there. Its body has
 * to be read or destroyed; the signal ends both.
 */
export type GuardedOpener = (how: GuardedOpening, signal: AbortSignal) => Promise<IncomingMessage>

const REDIRECTS_MAX = 5
const HOPS = new Set([301, 302, 303, 307, 308])
/** Headers that hold no secret and go wherever a redirect leads. */
const PLAIN = new Set(['accept', 'accept-encoding', 'range', 'if-range'])

// Loopback, link-local (metadata services), private and shared networks, benchmarks, documentation, multicast and
// reserved; of IPv6 also what carries an IPv4 address within.
const CLOSED4 = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/3',
]
const CLOSED6 = [
  '::/96',
  '64:ff9b::/96',
  '64:ff9b:1::/48',
  '100::/64',
  '2001::/32',
  '2001:db8::/32',
  '2002::/16',
  'fc00::/7',
  'fe80::/10',
  'fec0::/10',
  'ff00::/8',
]

const listOf = (networks: readonly string[]): BlockList => {
  const list = new BlockList()
  for (const it of networks) {
    const [address = '', prefix] = it.split('/')
    // `isIP` would compile its expression for IPv6, which takes milliseconds of every start.
    list.addSubnet(address, Number(prefix), address.includes(':') ? 'ipv6' : 'ipv4')
  }
  return list
}

/** Whether an address is closed to tenants: `allowed` are networks that the operator opens all the same. */
export function closedTo(allowed: readonly string[]): (address: string) => boolean {
  const [shut, open] = [listOf([...CLOSED4, ...CLOSED6]), listOf(allowed)]
  return (address) => {
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
    return isIP(address) === 0 || (shut.check(address, family) && !open.check(address, family))
  }
}

const refused = (host: string): CloudError =>
  new CloudError(
    'invalid',
    `${host} is in a network that may not be asked; an administrator can open one with --allow-network`,
    { field: 'url' },
  )

/** Names of this machine itself, whatever the resolver says (RFC 6761). */
const LOCALHOST = /(^|\.)localhost\.?$/i

/** The address that a tenant named, as far as its text tells that it may be asked; `invalid` otherwise. */
export function guardedUrl(text: string, isClosed: (address: string) => boolean, base?: URL): URL {
  const url = URL.parse(text, base?.href)
  if (!url || !['http:', 'https:'].includes(url.protocol) || url.username !== '' || url.password !== '')
    throw new CloudError('invalid', 'must be an http or https address without a password in it', {
      field: 'url',
    })
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const address = LOCALHOST.test(host) ? '127.0.0.1' : host
  if (isIP(address) !== 0 && isClosed(address)) throw refused(host)
  return url
}

/** `allowed` as of `closedTo`. */
export function guardedOpener(allowed: readonly string[], find: typeof resolve = resolve): GuardedOpener {
  const isClosed = closedTo(allowed)
  // What is connected to is what was looked at: a name cannot mean something else a moment later.
  const guardedLookup: LookupFunction = (host, options, callback) => {
    find(host, { ...options, all: true }, (error, found) => {
      const all = (error ? [] : found) as LookupAddress[]
      const [first] = all
      if (error || !first) return callback(error ?? new Error(`${host} has no address`), '', 0)
      if (all.some((it) => isClosed(it.address))) return callback(refused(host), '', 0)
      if (options.all === true) return callback(null, all)
      callback(null, first.address, first.family)
    })
  }

  const once = (how: GuardedOpening, url: URL, signal: AbortSignal): Promise<IncomingMessage> =>
    new Promise((done, fail) => {
      const send = url.protocol === 'https:' ? tlsRequest : plainRequest
      const request = send(
        url,
        {
          method: how.method ?? 'GET',
          headers: {
            ...how.headers,
            ...(how.body === undefined ? {} : { 'content-length': Buffer.byteLength(how.body) }),
          },
          lookup: guardedLookup,
          agent: false,
          signal,
        },
        done,
      )
      request.on('error', fail)
      request.end(how.body)
    })

  return async (how, signal) => {
    let url = guardedUrl(how.url, isClosed)
    let asked = how
    try {
      for (let hop = 0; hop <= REDIRECTS_MAX; hop++) {
        const answer = await once(asked, url, signal)
        const { location } = answer.headers
        if (!HOPS.has(answer.statusCode ?? 0) || location === undefined) return answer
        answer.destroy()
        const next = guardedUrl(location, isClosed, url)
        const { headers = {}, body: _body, ...bare } = asked
        // No redirect is worth more than the headers' secrecy: they go to the first host alone.
        const plain = Object.fromEntries(Object.entries(headers).filter(([name]) => PLAIN.has(name)))
        if (next.origin !== url.origin) asked = { ...bare, headers: plain, method: 'GET' }
        url = next
      }
    } catch (error) {
      if (error instanceof CloudError) throw error
      signal.throwIfAborted()
      throw new CloudError('unavailable', 'it cannot be reached', {}, error)
    }
    throw new CloudError('unavailable', `it redirects more than ${REDIRECTS_MAX} times`)
  }
}

async function textOf(answer: IncomingMessage, bytesMax: number): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > bytesMax) throw new CloudError('unavailable', `it answers with more than ${bytesMax} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** `allowed` as of `closedTo`. */
export function guardedClient(allowed: readonly string[], find: typeof resolve = resolve): GuardedClient {
  const open = guardedOpener(allowed, find)
  return async ({ timeoutMs, bytesMax, ...how }, signal) => {
    const late = AbortSignal.timeout(timeoutMs)
    try {
      const answer = await open(how, signal ? AbortSignal.any([signal, late]) : late)
      return { status: answer.statusCode ?? 0, body: await textOf(answer, bytesMax) }
    } catch (error) {
      if (error instanceof CloudError) throw error
      signal?.throwIfAborted()
      const why = late.aborted ? `it did not answer within ${timeoutMs} ms` : 'it cannot be reached'
      throw new CloudError('unavailable', why, {}, error)
    }
  }
}
