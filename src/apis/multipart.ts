import { Busboy, type BusboyFileStream, type BusboyHeaders } from '@fastify/busboy'
import type { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import { CloudError } from '#lib/errors.ts'

/** What a form may hold beside its file. */
const FORM_LIMITS = { files: 1, fields: 20, parts: 21, fieldSize: 4096, headerPairs: 20, headerSize: 8192 }

/** More than a form has beside its file. */
export const FORM_BYTES_MAX = 1_048_576

/** A file of a form; its content is read while the rest of the form is still to come. */
export type FormFile = { readonly name: string; readonly content: Readable }

const invalid = (message: string, cause?: unknown): CloudError =>
  new CloudError('invalid', message, {}, cause)

function parserOf({ headers }: IncomingMessage) {
  try {
    return new Busboy({ headers: headers as BusboyHeaders, limits: FORM_LIMITS })
  } catch (error) {
    throw invalid('Body must be a form: Content-Type: multipart/form-data with a boundary', error)
  }
}

/**
 * Hands the file in a field of a request's form to `keep`, as it comes: no more of the request is read than is kept. Gives
 * what that gave once all of the form was read. `invalid` for a body that is no form, ends early or lacks the file.
 */
export async function fileOfForm<R>(
  request: IncomingMessage,
  field: string,
  keep: (file: FormFile) => Promise<R>,
): Promise<R> {
  const parser = parserOf(request)
  const { promise: read, resolve: finish, reject: fail } = Promise.withResolvers<void>()
  let content: BusboyFileStream | undefined
  let kept: Promise<R> | undefined
  let fault: CloudError | undefined
  const breakOff = (message: string, cause?: unknown): void => {
    fault ??= invalid(message, cause)
    content?.destroy(fault)
    fail(fault)
  }
  const cut = (): void => {
    if (!request.complete) breakOff('Body ended before all of it was here')
  }
  parser.on('file', (name, file, filename) => {
    file.on('error', () => {})
    if (name !== field || kept) return void file.resume()
    content = file
    kept = keep({ name: filename, content: file })
    kept.catch(fail)
  })
  parser.once('finish', finish).on('error', (error) => breakOff('Body is not a valid form', error))
  request.on('error', cut).once('close', cut)
  request.pipe(parser)
  try {
    await read
    if (!kept) throw new CloudError('invalid', 'is required, as a file', { field })
    return await kept
  } catch (error) {
    await kept?.catch(() => {})
    throw fault ?? error
  } finally {
    request.off('close', cut)
    request.unpipe(parser)
    // What is left of a refused one has to pass before its answer can be read.
    request.resume()
  }
}
