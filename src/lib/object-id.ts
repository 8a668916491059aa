import { createHash } from 'node:crypto'
import { isUuid } from './ids.ts'

const DIGITS = 24
const OBJECT_ID = /^[0-9a-f]{24}$/i

export const isObjectId = (text: string): boolean => OBJECT_ID.test(text)

/** The short spelling of a UUIDv7, 24 hexadecimal digits: its first 96 bits. Throws on anything else. */
export function objectId(uuid: string): string {
  if (!isUuid(uuid)) throw new Error('only a UUID has a short spelling')
  return uuid.toLowerCase().replaceAll('-', '').slice(0, DIGITS)
}

/** What every UUID begins with that has this short spelling; sorts right before them. Undefined for what is none. */
export function uuidPrefix(short: string): string | undefined {
  if (!isObjectId(short)) return undefined
  const hex = short.toLowerCase()
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}

/** An id in the same spelling for what has none of its own, such as an address or an image; the same for the same text. */
export const objectIdOf = (text: string): string =>
  createHash('sha256').update(text).digest('hex').slice(0, DIGITS)
