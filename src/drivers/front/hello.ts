const RECORD_HEADER_BYTES = 5
const HANDSHAKE = 22
const CLIENT_HELLO = 1
const SERVER_NAME = 0
const HOST_NAME = 0
/** More than any client sends, keys of new algorithms included. */
export const HELLO_BYTES_MAX = 32_768
const RECORD_BYTES_MAX = 16_384 + 256
const NAME = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$/

/** `more`: not whole yet. `bad`: this is no TLS. A hello without a usable name has none. */
export type Hello = 'more' | 'bad' | { readonly name: string | undefined }

/** The handshake bytes of the first records, as far as they came; undefined when these are no such records. */
function handshakeOf(bytes: Buffer): Buffer | undefined {
  const parts: Buffer[] = []
  for (let at = 0; at < bytes.length;) {
    if (bytes[at] !== HANDSHAKE || (at + 1 < bytes.length && bytes[at + 1] !== 3)) return undefined
    if (at + RECORD_HEADER_BYTES > bytes.length) break
    const length = bytes.readUInt16BE(at + 3)
    if (length === 0 || length > RECORD_BYTES_MAX) return undefined
    parts.push(bytes.subarray(at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + length))
    at += RECORD_HEADER_BYTES + length
  }
  return Buffer.concat(parts)
}

/** Reads forward; throws RangeError past the end, which whoever calls takes for a bad hello. */
function reader(bytes: Buffer) {
  let at = 0
  const number = (size: number): number => {
    const value = bytes.readUIntBE(at, size)
    at += size
    return value
  }
  const take = (size: number): Buffer => {
    if (at + size > bytes.length) throw new RangeError('past the end')
    at += size
    return bytes.subarray(at - size, at)
  }
  return { number, take, left: () => bytes.length - at }
}

/** The name in a whole hello's body. */
function nameIn(body: Buffer): string | undefined {
  const hello = reader(body)
  hello.take(2 + 32)
  hello.take(hello.number(1)) // session
  hello.take(hello.number(2)) // ciphers
  hello.take(hello.number(1)) // compression
  if (!hello.left()) return undefined
  const extensions = reader(hello.take(hello.number(2)))
  while (extensions.left()) {
    const type = extensions.number(2)
    const content = extensions.take(extensions.number(2))
    if (type !== SERVER_NAME) continue
    const names = reader(reader(content).left() ? content.subarray(2) : content)
    const kind = names.number(1)
    const name = names.take(names.number(2)).toString('latin1').toLowerCase()
    return kind === HOST_NAME && name.length <= 253 && NAME.test(name) ? name : undefined
  }
  return undefined
}

/** What the first bytes of a connection say of the name that is asked for (SNI), over as many records as it takes. */
export function readHello(bytes: Buffer): Hello {
  const handshake = handshakeOf(bytes)
  if (!handshake) return 'bad'
  if (handshake.length && handshake[0] !== CLIENT_HELLO) return 'bad'
  const length = handshake.length < 4 ? undefined : handshake.readUIntBE(1, 3)
  if (length !== undefined && length > HELLO_BYTES_MAX) return 'bad'
  if (length === undefined || handshake.length < 4 + length)
    return bytes.length > HELLO_BYTES_MAX ? 'bad' : 'more'
  try {
    return { name: nameIn(handshake.subarray(4, 4 + length)) }
  } catch {
    return 'bad'
  }
}

/** A fatal alert as TLS sends it before keys are agreed on. */
const alert = (description: number): Buffer => Buffer.from([21, 3, 1, 0, 2, 2, description])
/** We have no such name. */
export const UNRECOGNIZED_NAME = alert(112)
