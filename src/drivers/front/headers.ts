/** Names and values in turn, as they came. */
export type Headers = readonly string[]

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
/** Whether it can be the name of a header. */
export const isToken = (name: string): boolean => TOKEN.test(name)

// What concerns one connection alone, and what only we may say to an origin.
const NOT_FORWARDED = new Set([
  'content-length',
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'expect',
  'host',
  'forwarded',
  'x-real-ip',
  'x-forwarded-for',
  'x-forwarded-proto',
  'x-forwarded-host',
  'x-forwarded-port',
  'x-forwarded-prefix',
  'x-forwarded-server',
])
const NOT_RETURNED = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/** Names that `Connection` lists: they go no further than this connection. */
function listed(headers: Headers): ReadonlySet<string> | undefined {
  let names: Set<string> | undefined
  for (let it = 0; it < headers.length; it += 2) {
    if (headers[it]?.length !== 10 || headers[it]?.toLowerCase() !== 'connection') continue
    for (const name of (headers[it + 1] ?? '').split(',')) {
      const trimmed = name.trim().toLowerCase()
      if (trimmed !== 'close' && trimmed !== 'keep-alive' && trimmed !== '')
        (names ??= new Set()).add(trimmed)
    }
  }
  return names
}

/** Who asks, and how, as an origin is told. */
export type Forwarded = {
  readonly client: string
  readonly host: string
  readonly encrypted: boolean
  /** The path that was taken off. */
  readonly prefix?: string | undefined
}

/**
 * The headers of a request as they go to the origin. What the client says of `X-Forwarded-*` is replaced: the edge is
 * the first that can know.
 */
export function requestHeaders(headers: Headers, about: Forwarded): string[] {
  const own = listed(headers)
  const sent = ['host', about.host]
  let cookie: string | undefined
  for (let it = 0; it < headers.length; it += 2) {
    const name = headers[it] ?? ''
    const lower = name.toLowerCase()
    if (NOT_FORWARDED.has(lower) || own?.has(lower)) continue
    const value = headers[it + 1] ?? ''
    // HTTP/2 may send cookies one by one; HTTP/1.1 has one header for all.
    if (lower === 'cookie') cookie = cookie === undefined ? value : `${cookie}; ${value}`
    else sent.push(name, value)
  }
  if (cookie !== undefined) sent.push('cookie', cookie)
  sent.push('x-forwarded-for', about.client, 'x-forwarded-proto', about.encrypted ? 'https' : 'http')
  sent.push('x-forwarded-host', about.host)
  if (about.prefix !== undefined) sent.push('x-forwarded-prefix', about.prefix)
  return sent
}

/** The headers of an origin's answer as they go to the client. */
export function responseHeaders(headers: Headers): string[] {
  const own = listed(headers)
  const sent: string[] = []
  for (let it = 0; it < headers.length; it += 2) {
    const name = headers[it] ?? ''
    const lower = name.toLowerCase()
    if (!NOT_RETURNED.has(lower) && !own?.has(lower)) sent.push(name, headers[it + 1] ?? '')
  }
  return sent
}

/** The value of a header; undefined when it is absent, the first when there are several. */
export function headerOf(headers: Headers, name: string): string | undefined {
  for (let it = 0; it < headers.length; it += 2)
    if (headers[it]?.length === name.length && headers[it]?.toLowerCase() === name) return headers[it + 1]
  return undefined
}

export function countOf(headers: Headers, name: string): number {
  let count = 0
  for (let it = 0; it < headers.length; it += 2)
    if (headers[it]?.length === name.length && headers[it]?.toLowerCase() === name) count++
  return count
}

const HOST = /^([a-z0-9_][a-z0-9_.-]*[a-z0-9_]|[a-z0-9_])\.?(?::\d{1,5})?$/i

/** The hostname in a `Host`, lower case, without port and final dot; undefined for what no route can have. */
export function hostnameOf(host: string): string | undefined {
  return HOST.exec(host)?.[1]?.toLowerCase()
}
