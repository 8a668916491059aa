import type { IncomingHttpHeaders } from 'node:http'
import type { Readable } from 'node:stream'
import { CloudError, isCloudError } from '#lib/errors.ts'
import type { GuardedOpener } from '#lib/guarded.ts'

/** From asking to the head of the answer, over all redirects. */
const ANSWER_MS_MAX = 60_000

/** What servers call an image of a disk. */
const TYPES = new Set([
  'application/octet-stream',
  'binary/octet-stream',
  'application/x-iso9660-image',
  'application/x-cd-image',
  'application/vnd.efi.iso',
  'application/vnd.efi.img',
  'application/x-qemu-disk',
  'application/x-raw-disk-image',
  'application/x-disk-image',
])
/** Answers after which the same question may be answered otherwise. */
const PASSING = new Set([408, 425, 429])

const isPassing = (status: number): boolean => PASSING.has(status) || status >= 500

/** Whether another fetch would end the same. */
export const isFinal = (error: unknown): boolean =>
  isCloudError(error) && error.code !== 'unavailable' && error.code !== 'exhausted'

/** Content by which a server knows it again, and how much it is in all. */
export type Known = { readonly validator: string; readonly totalBytes: number }

export type Fetched = {
  readonly source: Readable
  readonly totalBytes?: number
  /** Where in the content it begins; 0 unless it was asked to go on. */
  readonly from: number
  /** Present when the server lets it be gone on with. */
  readonly known?: Known
}

/** A strong entity tag, else the moment of the last change (RFC 9110, 13.1.5). */
function validatorOf({ etag, 'last-modified': changed }: IncomingHttpHeaders): string | undefined {
  return etag !== undefined && /^"[^"]*"$/.test(etag) ? etag : changed
}

/** Where an answer of a part begins, when it is a part of what is known. */
function partOf(headers: IncomingHttpHeaders, { validator, totalBytes }: Known): number | undefined {
  const [, from, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(headers['content-range'] ?? '') ?? []
  return validatorOf(headers) === validator && Number(total) === totalBytes ? Number(from) : undefined
}

/**
 * Asks an address for an image: gives its content as it comes, and its size where that is said. Throws `invalid` when it
 * is none or may not be asked, `unavailable` when another try may help. `goOn` asks for what is left of content that was begun;
 * content that is another by now comes from its start.
 */
export async function fetched(
  open: GuardedOpener,
  url: string,
  signal: AbortSignal,
  goOn?: Known & { readonly doneBytes: number },
): Promise<Fetched> {
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(), ANSWER_MS_MAX)
  const refuse = (code: 'invalid' | 'unavailable', message: string): never => {
    throw new CloudError(code, message)
  }
  try {
    const headers = {
      accept: '*/*',
      'accept-encoding': 'identity',
      ...(goOn ? { range: `bytes=${goOn.doneBytes}-`, 'if-range': goOn.validator } : {}),
    }
    const answer = await open({ url, headers }, AbortSignal.any([signal, late.signal]))
    const status = answer.statusCode ?? 0
    const { 'content-type': type = 'application/octet-stream', 'content-length': length } = answer.headers
    const [plain = ''] = type.toLowerCase().split(';')
    try {
      if (goOn && (status === 416 || (status === 206 && partOf(answer.headers, goOn) !== goOn.doneBytes))) {
        answer.destroy()
        return await fetched(open, url, signal)
      }
      if (status !== 200 && !(goOn && status === 206))
        refuse(isPassing(status) ? 'unavailable' : 'invalid', `its address answers with status ${status}`)
      if (!TYPES.has(plain.trim()))
        refuse(
          'invalid',
          `its address answers with ${plain.trim().slice(0, 100)}, which is no image of a disk`,
        )
      if ((answer.headers['content-encoding'] ?? 'identity') !== 'identity')
        refuse('invalid', 'its address answers with a packed form of it')
    } catch (error) {
      answer.destroy()
      throw error
    }
    if (goOn && status === 206)
      return { source: answer, totalBytes: goOn.totalBytes, from: goOn.doneBytes, known: goOn }
    if (length === undefined) return { source: answer, from: 0 }
    const totalBytes = Number(length)
    const validator = answer.headers['accept-ranges'] === 'bytes' ? validatorOf(answer.headers) : undefined
    return {
      source: answer,
      totalBytes,
      from: 0,
      ...(validator === undefined ? {} : { known: { validator, totalBytes } }),
    }
  } catch (error) {
    if (late.signal.aborted && !signal.aborted)
      throw new CloudError('unavailable', `it did not answer within ${ANSWER_MS_MAX / 1000} s`, {}, error)
    throw error
  } finally {
    clearTimeout(timer)
  }
}
