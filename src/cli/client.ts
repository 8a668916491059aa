import { readFileSync } from 'node:fs'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { messageOf } from '#lib/errors.ts'
import type { Connection } from './config.ts'
import { EXIT, Failure, usage } from './failure.ts'

/** An ordinary request is given up after this long. */
const REQUEST_SECONDS = 60

/** A resource as the native API shows it. */
export type Resource = {
  readonly kind: string
  readonly id: string
  readonly tenant: string
  readonly name: string
  readonly owner?: string
  readonly labels: Readonly<Record<string, string>>
  readonly spec: Readonly<Record<string, unknown>>
  readonly status: Readonly<Record<string, unknown>>
  readonly generation: number
  readonly observed: number
  readonly revision: number
  readonly createdAt: string
  readonly updatedAt: string
  readonly deletedAt?: string
  readonly overdue?: string
  readonly settled: boolean
}
export type Page = {
  readonly items: readonly Resource[]
  readonly next?: string
  readonly total: number
  readonly cursor: string
}
export type KindInfo = {
  readonly name: string
  readonly scope: 'tenant' | 'platform'
  readonly spec: unknown
  readonly status: unknown
  readonly immutable: readonly string[]
  readonly secret: readonly string[]
}
export type Explanation = {
  readonly settled: boolean
  readonly state: string
  readonly since?: string
  readonly settleBy?: string
  readonly overdue?: string
  readonly message?: string
  readonly advice?: string
  readonly page?: string
  readonly queue?: { readonly at: string; readonly attempt: number; readonly reason?: string }
  readonly waitingFor: readonly {
    readonly kind: string
    readonly id: string
    readonly name: string
    readonly reason?: string
  }[]
}

export type Query = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>

export type Client = {
  readonly connection: Connection
  get<T>(path: string, query?: Query): Promise<T>
  send<T>(method: 'POST' | 'PATCH' | 'DELETE', path: string, body?: unknown, query?: Query): Promise<T>
  /** An answer that goes on; ends with `signal`. */
  stream(
    path: string,
    query: Query,
    signal: AbortSignal,
    headers?: Record<string, string>,
  ): Promise<AsyncIterable<Uint8Array>>
  /** The address and headers for a WebSocket. */
  socket(path: string, query: Query): { readonly url: string; readonly headers: Record<string, string> }
}

/** One or more steps of a path, each encoded. */
export const pathOf = (...steps: readonly string[]): string =>
  steps.map((it) => `/${encodeURIComponent(it)}`).join('')

type ErrorBody = {
  error?: {
    code?: string
    message?: string
    field?: string
    blockers?: readonly string[]
    requestId?: string
  }
}

const HINTS: Readonly<Record<string, string>> = {
  unauthenticated: 'log in with: arcus login',
  forbidden: 'ask an administrator, or log in as another: arcus login',
  rate_limited: 'wait a little and try again',
  unavailable: 'try again; as an administrator see: arcus leaks',
  exhausted: 'delete something, or ask an administrator to raise the quota',
  internal: 'the log of the cloud has the cause under this request id',
}

/** A refusal of the cloud, with what stands in the way and what to do next. */
function refusal(status: number, text: string, how: { hasToken: boolean; isLogin: boolean }): Failure {
  let body: ErrorBody = {}
  try {
    body = JSON.parse(text) as ErrorBody
  } catch {
    // Not ours: a proxy, or another program at this address.
  }
  const { code = '', message = `the server answered ${status}`, blockers = [] } = body.error ?? {}
  const lines = [message, ...blockers.map((it) => `  in the way: ${it}`)].join('\n')
  if (how.isLogin)
    return new Failure(EXIT.refused, lines, code === 'unauthenticated' ? undefined : HINTS[code], code)
  if (code === 'unauthenticated' && !how.hasToken)
    return new Failure(EXIT.refused, 'you are not logged in', HINTS['unauthenticated'], code)
  if (/Arcus-Tenant|tenant to act in/i.test(message))
    return new Failure(EXIT.refused, lines, 'name it with --tenant NAME; arcus tenants list shows them', code)
  if (body.error === undefined)
    return new Failure(EXIT.refused, lines, 'is that the address of an Arcus cloud?')
  return new Failure(EXIT.refused, lines, HINTS[code], code)
}

const TLS_CODES = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ERR_TLS/

function unreachable(url: string, error: unknown): Failure {
  const cause = (
    error as { cause?: { code?: string; message?: string; errors?: readonly { code?: string }[] } }
  ).cause
  const code = cause?.code ?? cause?.errors?.[0]?.code ?? ''
  const why =
    (error as Error).name === 'TimeoutError'
      ? `no answer in ${REQUEST_SECONDS} s`
      : code || cause?.message || messageOf(error)
  if (TLS_CODES.test(code))
    return new Failure(
      EXIT.unreachable,
      `cannot trust ${url} (${why})`,
      "name its authority's certificate with --ca FILE or ARCUS_CA",
    )
  return new Failure(
    EXIT.unreachable,
    `cannot reach ${url} (${why})`,
    'start it with ./arcus up, or name another address with --url or ARCUS_URL',
  )
}

/** Trusts one more certificate authority, for this process. */
function trust(file: string): void {
  try {
    setDefaultCACertificates([...getCACertificates('default'), readFileSync(file, 'utf8')])
  } catch (error) {
    throw usage(`cannot use ${file} as a certificate authority: ${messageOf(error)}`)
  }
}

/** `interrupted` ends every request. */
export function createClient(connection: Connection, interrupted: AbortSignal): Client {
  const { url, token, tenant, ca } = connection
  if (ca !== undefined) trust(ca)
  // A header holds no other characters.
  if (tenant !== undefined && !/^[\x20-\x7e]+$/.test(tenant))
    throw usage(`name the tenant ${tenant} by its id: arcus tenants list`)
  const credentials = {
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...(tenant === undefined ? {} : { 'arcus-tenant': tenant }),
  }
  const patience = (): AbortSignal =>
    AbortSignal.any([interrupted, AbortSignal.timeout(REQUEST_SECONDS * 1000)])
  const address = (path: string, query: Query = {}): string => {
    const search = new URLSearchParams()
    for (const [key, value] of Object.entries(query)) {
      if (value === undefined || value === false) continue
      for (const one of Array.isArray(value) ? (value as readonly string[]) : [String(value)])
        search.append(key, one)
    }
    return `${url}/native${path}${search.size ? `?${search}` : ''}`
  }
  const call = async (target: string, init: RequestInit): Promise<Response> => {
    let response: Response
    try {
      response = await fetch(target, { redirect: 'error', ...init })
    } catch (error) {
      if (init.signal?.aborted && (init.signal.reason as Error).name !== 'TimeoutError')
        throw init.signal.reason
      throw unreachable(url, error)
    }
    if (!response.ok)
      throw refusal(response.status, await response.text(), {
        hasToken: token !== undefined,
        isLogin: target === address('/login'),
      })
    return response
  }
  const answer = async <T>(response: Response): Promise<T> => {
    try {
      return (await response.json()) as T
    } catch (error) {
      throw new Failure(
        EXIT.refused,
        `${url} gave an answer that is not JSON (${messageOf(error)})`,
        'is that the address of an Arcus cloud?',
      )
    }
  }
  return {
    connection,
    get: async (path, query) =>
      await answer(
        await call(address(path, query), {
          headers: credentials,
          signal: patience(),
        }),
      ),
    send: async (method, path, body, query) =>
      await answer(
        await call(address(path, query), {
          method,
          headers: { ...credentials, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
          signal: patience(),
        }),
      ),
    async stream(path, query, signal, headers = {}) {
      const { body } = await call(address(path, query), { headers: { ...credentials, ...headers }, signal })
      return body ?? new ReadableStream<Uint8Array>()
    },
    socket: (path, query) => ({ url: address(path, query).replace(/^http/, 'ws'), headers: credentials }),
  }
}
