import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import type { LogEntry } from '#cloud/compute/compute.driver.ts'
import { entriesOf, placeOf, sinceOf } from './logs.ts'

const at = (ns: number): string => `2026-01-01T00:00:00.${String(ns).padStart(9, '0')}Z`

function frame(stream: 1 | 2, text: string): Buffer {
  const payload = Buffer.from(text)
  const header = Buffer.alloc(8)
  header[0] = stream
  header.writeUInt32BE(payload.length, 4)
  return Buffer.concat([header, payload])
}

/** The same bytes in pieces of these sizes, over and over. */
async function* pieces(bytes: Buffer, sizes: readonly number[]): AsyncGenerator<Buffer> {
  for (let from = 0, n = 0; from < bytes.length; n++) {
    const to = from + (sizes[n % sizes.length] ?? 1)
    yield bytes.subarray(from, to)
    from = to
    await Promise.resolve()
  }
}

const read = async (bytes: Buffer, sizes: readonly number[], after?: string): Promise<LogEntry[]> => {
  const place = after === undefined ? undefined : placeOf(after)
  const entries: LogEntry[] = []
  for await (const entry of entriesOf(pieces(bytes, sizes), place)) entries.push(entry)
  return entries
}

describe("Docker's logs", () => {
  test('lines, however the bytes arrive, and on from every cursor', async () => {
    const line = fc.record({
      stream: fc.constantFrom<1 | 2>(1, 2),
      // Several lines of one moment are common: a program writes them at once.
      ns: fc.integer({ min: 0, max: 3 }),
      text: fc.string({ maxLength: 12 }).map((it) => it.replaceAll(/[\r\n]/g, '')),
    })
    await fc.assert(
      fc.asyncProperty(
        fc.array(line, { minLength: 1, maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 4 }),
        async (lines, sizes) => {
          const sorted = lines.toSorted((a, b) => a.ns - b.ns)
          const bytes = Buffer.concat(sorted.map((it) => frame(it.stream, `${at(it.ns)} ${it.text}\n`)))
          const entries = await read(bytes, sizes)
          assert.deepEqual(
            entries.map((it) => `${it.stream} ${it.line}`),
            sorted.map((it) => `${it.stream === 1 ? 'stdout' : 'stderr'} ${it.text}`),
          )
          for (const [n, entry] of entries.entries()) {
            // Docker gives everything from the moment of the cursor on.
            const from = sorted.findIndex((it) => at(it.ns) === placeOf(entry.cursor).time)
            const rest = Buffer.concat(
              sorted.slice(from).map((it) => frame(it.stream, `${at(it.ns)} ${it.text}\n`)),
            )
            assert.deepEqual(await read(rest, sizes, entry.cursor), entries.slice(n + 1))
          }
        },
      ),
    )
  })

  test('a line in parts is one, up to a limit; the last needs no end', async () => {
    const half = 'x'.repeat(16_384)
    const bytes = Buffer.concat([
      frame(1, `${at(1)} ${half}`),
      frame(2, `${at(2)} between\n`),
      frame(1, `${at(3)} ${half}\n`),
      frame(1, `${at(4)} no end`),
    ])
    const entries = await read(bytes, [1000])
    assert.deepEqual(
      entries.map((it) => [it.stream, it.line.length]),
      [
        ['stderr', 7],
        ['stdout', 32_768],
        ['stdout', 6],
      ],
    )
    const endless = Buffer.concat(Array.from({ length: 9 }, (_, n) => frame(1, `${at(n)} ${half}`)))
    assert.deepEqual(
      (await read(endless, [5000])).map((it) => it.line.length),
      [65_536, 65_536, 16_384],
    )
  })

  test('cursors are checked', () => {
    for (const cursor of ['', 'x', '2026-01-01_1', `${at(1)}`, `${at(1)}_x`, `${at(1)}_1; rm`]) {
      assert.throws(() => placeOf(cursor), { code: 'invalid' })
    }
    assert.equal(sinceOf(at(5)), `${Date.UTC(2026, 0, 1) / 1000}.000000005`)
  })
})
