import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { COMMAND_ENV } from '#lib/command.ts'
import { cut, cutLines } from './cut.ts'
import type { Flow } from './flows.ts'

const flow = (source: string, destination: string, port: number, more: Partial<Flow> = {}): Flow => ({
  protocol: 'tcp',
  source,
  destination,
  port,
  replySource: destination,
  replyDestination: source,
  replyPort: port,
  ...more,
})

/** Whether `conntrack -D` would end a flow by this line. */
function ends(line: string, it: Flow): boolean {
  const wanted = new Map(
    [...line.matchAll(/ (-\S+) (\S+)/g)].map(([, option = '', value = '']) => [option, value]),
  )
  const own = new Map([
    ['-p', it.protocol],
    ['-s', it.source],
    ['-d', it.destination],
    ['-r', it.replySource],
    ['-q', it.replyDestination],
    ['--dport', String(it.port)],
    ['--reply-port-src', String(it.replyPort)],
  ])
  return [...wanted].every(([option, value]) => own.get(option) === value)
}

const anyFlow = fc
  .record({
    source: fc.integer({ min: 1, max: 4 }),
    target: fc.integer({ min: 1, max: 3 }),
    port: fc.integer({ min: 1, max: 2 }),
    protocol: fc.constantFrom('tcp', 'udp'),
    byVip: fc.boolean(),
  })
  .map(({ source, target, port, protocol, byVip }) =>
    flow(`10.0.1.${source}`, byVip ? '10.0.1.100' : `10.0.2.${target}`, port, {
      protocol,
      replySource: `10.0.2.${target}`,
    }),
  )

describe('the lines by which flows are ended', () => {
  test('end all that are to end, and no others', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(anyFlow, fc.boolean()), { maxLength: 60 }), (marked) => {
        // The verdict is one for flows that differ in the client's port only.
        const verdicts = new Map(marked.map(([it, going]) => [JSON.stringify(it), going]))
        const all = marked.map(([it]) => it)
        const gone = all.filter((it) => verdicts.get(JSON.stringify(it)))
        const lines = cutLines(all, gone)
        for (const it of all)
          assert.equal(
            lines.some((line) => ends(line, it)),
            gone.includes(it),
          )
      }),
      { numRuns: 300 },
    )
  })

  test('are one for a service that is closed, and one for a machine that is', () => {
    const clients = Array.from({ length: 50 }, (_, at) => flow(`192.0.2.${at + 1}`, '10.0.1.5', 80))
    const others = [flow('192.0.2.1', '10.0.1.5', 81), flow('192.0.2.1', '10.0.1.6', 80)]
    assert.deepEqual(cutLines([...clients, ...others], clients), [
      '-D -p tcp -d 10.0.1.5 -r 10.0.1.5 --dport 80 --reply-port-src 80',
    ])
    const out = Array.from({ length: 50 }, (_, at) =>
      flow('10.0.1.5', `192.0.2.${at + 1}`, 443, { replyDestination: '100.72.0.1' }),
    )
    assert.deepEqual(cutLines([...out, ...others], out), ['-D -p tcp -s 10.0.1.5 -q 100.72.0.1'])
  })

  test('name the family', () => {
    const six = flow('fd00::1', 'fd00::2', 80)
    assert.deepEqual(cutLines([six], [six]), [
      '-D -f ipv6 -p tcp -d fd00::2 -r fd00::2 --dport 80 --reply-port-src 80 -s fd00::1 -q fd00::1',
    ])
  })

  test('stay few even when a service keeps some of very many clients', () => {
    const clients = Array.from({ length: 2_000 }, (_, at) =>
      flow(`10.9.${at >> 8}.${at & 255}`, '10.0.1.5', 80),
    )
    assert.equal(cutLines(clients, clients.slice(1)).length, 1)
    assert.equal(cutLines(clients, clients.slice(1_990)).length, 10)
  })
})

test('flows that several end at the same time all end', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-cut-'))
  const { PATH } = COMMAND_ENV
  t.after(async () => {
    COMMAND_ENV.PATH = PATH
    await rm(folder, { recursive: true })
  })
  // Notes what it is told instead of doing it.
  const told = join(folder, 'told')
  await writeFile(join(folder, 'conntrack'), `#!/bin/sh\ncat "$2" >>${told}\n`, { mode: 0o755 })
  COMMAND_ENV.PATH = `${folder}:${PATH}`
  const { signal } = new AbortController()
  const lines = ['-D -s 10.0.0.1', '-D -s 10.0.0.2', '-D -s 10.0.0.3']
  await Promise.all(lines.map((it) => cut(undefined, [it], folder, signal)))
  assert.deepEqual((await readFile(told, 'utf8')).trim().split('\n').toSorted(), lines)
  assert.deepEqual((await readdir(folder)).toSorted(), ['conntrack', 'told'])
})
