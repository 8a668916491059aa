import { CloudError, messageOf } from '#lib/errors.ts'

export const CLOUDFLARE_API = 'https://api.cloudflare.com/client/v4'
const CALL_MS_MAX = 20_000
const RETRY_SECONDS_DEFAULT = 60

type Envelope<T> = {
  readonly success?: boolean
  readonly errors?: readonly { readonly code?: number; readonly message?: string }[]
  readonly result?: T
}

/** One call of Cloudflare's API; its refusals are CloudErrors with Cloudflare's own words. The token is in no error. */
export type CloudflareApi = {
  call<T>(
    token: string,
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    signal: AbortSignal,
    body?: unknown,
  ): Promise<T>
}

/** A client of the API at `base`. A rate limit is `rate_limited` with the seconds to wait, an id that is not there `not_found`. */
export const cloudflareApi = (base: string = CLOUDFLARE_API): CloudflareApi => ({
  async call<T>(
    token: string,
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    signal: AbortSignal,
    body?: unknown,
  ): Promise<T> {
    let response: Response
    let answer: Envelope<T>
    try {
      response = await fetch(`${base}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        redirect: 'error',
        signal: AbortSignal.any([signal, AbortSignal.timeout(CALL_MS_MAX)]),
      })
      answer = (await response.json().catch(() => ({}))) as Envelope<T>
    } catch (error) {
      if (signal.aborted) throw signal.reason
      throw new CloudError('unavailable', `Cloudflare does not answer: ${messageOf(error)}`, {}, error)
    }
    if (response.ok && answer.success !== false) return answer.result as T
    throw refusal(response, answer)
  },
})

function refusal(response: Response, { errors = [] }: Envelope<unknown>): CloudError {
  const said = errors.map(({ code, message }) => `${message ?? 'no reason'} (${code ?? response.status})`)
  const text = `Cloudflare refused: ${said.join('; ') || `status ${response.status}`}`
  if (response.status === 429) {
    const retryAfterSeconds = Number(response.headers.get('retry-after')) || RETRY_SECONDS_DEFAULT
    return new CloudError('rate_limited', text, { retryAfterSeconds })
  }
  if (response.status === 404) return new CloudError('not_found', text)
  if (response.status === 401 || response.status === 403)
    return new CloudError('forbidden', `${text}: check the token and its permissions`)
  return new CloudError(response.status >= 500 ? 'unavailable' : 'invalid', text)
}
