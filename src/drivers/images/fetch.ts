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

/**
 * Asks an address for an image: gives its content as it comes, and its size where that is said. Throws `invalid` when it
 * is none or may not be asked, `unavailable` when another try may help.
 */
export async function fetched(
  open: GuardedOpener,
  url: string,
  signal: AbortSignal,
): Promise<{ readonly source: Readable; readonly totalBytes?: number }> {
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(), ANSWER_MS_MAX)
  const refuse = (code: 'invalid' | 'unavailable', message: string): never => {
    throw new CloudError(code, message)
  }
  try {
    const headers = { accept: '*/*', 'accept-encoding': 'identity' }
    const answer = await open({ url, headers }, AbortSignal.any([signal, late.signal]))
    const status = answer.statusCode ?? 0
    const { 'content-type': type = 'application/octet-stream', 'content-length': length } = answer.headers
    const [plain = ''] = type.toLowerCase().split(';')
    try {
      if (status !== 200)
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
    return { source: answer, ...(length === undefined ? {} : { totalBytes: Number(length) }) }
  } catch (error) {
    if (late.signal.aborted && !signal.aborted)
      throw new CloudError('unavailable', `it did not answer within ${ANSWER_MS_MAX / 1000} s`, {}, error)
    throw error
  } finally {
    clearTimeout(timer)
  }
}
