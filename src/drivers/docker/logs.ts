import type { LogEntry } from '#cloud/compute/compute.driver.ts'
import { CloudError } from '#lib/errors.ts'

/** A longer line comes in parts. */
const LINE_BYTES_MAX = 64 * 1024
const HEADER_BYTES = 8
const CURSOR = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z)_(\d{1,9})$/

/** A place in a container's logs: a moment in Docker's own nanoseconds and how many lines of that moment came before. */
export type Place = { readonly time: string; readonly sequence: number }

export const cursorOf = (place: Place): string => `${place.time}_${place.sequence}`

export function placeOf(cursor: string): Place {
  const [, time, sequence] = CURSOR.exec(cursor) ?? []
  if (time === undefined) throw new CloudError('invalid', `'${cursor}' is not a cursor of logs`)
  return { time, sequence: Number(sequence) }
}

/** Docker's `since`: seconds with nanoseconds. */
export function sinceOf(time: string): string {
  const [whole = '', fraction = '0Z'] = time.replace(/Z$/, '').split('.')
  return `${Date.parse(`${whole}Z`) / 1000}.${fraction.replace('Z', '').padEnd(9, '0')}`
}

type Frame = { readonly stream: LogEntry['stream']; readonly payload: Buffer }

/** Docker's multiplexed stream: a byte that names the stream, three zeros, a length, the bytes. */
export async function* framesOf(source: AsyncIterable<Uint8Array>): AsyncGenerator<Frame, void, undefined> {
  let rest: Buffer = Buffer.alloc(0)
  for await (const chunk of source) {
    rest = rest.length ? Buffer.concat([rest, chunk]) : Buffer.from(chunk)
    let at = 0
    while (rest.length - at >= HEADER_BYTES) {
      const end = at + HEADER_BYTES + rest.readUInt32BE(at + 4)
      if (rest.length < end) break
      yield { stream: rest[at] === 2 ? 'stderr' : 'stdout', payload: rest.subarray(at + HEADER_BYTES, end) }
      at = end
    }
    rest = rest.subarray(at)
  }
}

/**
 * Lines of frames whose payload begins with a time. Docker cuts long lines into frames without a line end: they are put
 * together again up to a limit. Lines up to `after` are left out.
 */
export async function* entriesOf(
  source: AsyncIterable<Uint8Array>,
  after?: Place,
): AsyncGenerator<LogEntry, void, undefined> {
  let seen: Place = { time: '', sequence: 0 }
  let furthest = after ?? seen
  const parts = new Map<LogEntry['stream'], { time: string; text: Buffer }>()
  const entry = (stream: LogEntry['stream'], time: string, text: Buffer): LogEntry | undefined => {
    seen = { time, sequence: time === seen.time ? seen.sequence + 1 : 1 }
    if (after && !isAfter(seen, after)) return undefined
    // The end of a long line may follow younger lines of the other stream: its cursor is theirs.
    if (isAfter(seen, furthest)) furthest = seen
    const line = text.toString('utf8').replace(/\r?\n$/, '')
    return { cursor: cursorOf(furthest), at: Date.parse(time), stream, line }
  }
  for await (const { stream, payload } of framesOf(source)) {
    const space = payload.indexOf(0x20)
    if (space < 0) continue
    const part = parts.get(stream)
    const time = part?.time ?? payload.subarray(0, space).toString('latin1')
    const text = Buffer.concat([part?.text ?? Buffer.alloc(0), payload.subarray(space + 1)])
    if (text.at(-1) !== 0x0a && text.length < LINE_BYTES_MAX) {
      parts.set(stream, { time, text })
      continue
    }
    parts.delete(stream)
    const it = entry(stream, time, text)
    if (it) yield it
  }
  for (const [stream, { time, text }] of parts) {
    const it = entry(stream, time, text)
    if (it) yield it
  }
}

// Times compare as text: Docker writes all of them with nine digits and in UTC.
const isAfter = (a: Place, b: Place): boolean =>
  a.time > b.time || (a.time === b.time && a.sequence > b.sequence)
