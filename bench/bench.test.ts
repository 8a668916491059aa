import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { atLeast, atMost, type Figure, isMet } from './figure.ts'
import { inTurn, quantile } from './rounds.ts'
import { table, writeBetweenMarks } from './table.ts'

const figure = (over: Partial<Figure> = {}): Figure => ({
  bench: 'one',
  what: 'doing it',
  unit: 'ms',
  ours: 4,
  against: 'not doing it',
  peer: 2,
  ratio: 2,
  rounds: { ours: [4], peer: [2] },
  ...over,
})

test('two sides take turns, and the ratio is the median of the rounds', async () => {
  const order: string[] = []
  const side = (name: string, values: number[]) => async (round: number) => {
    order.push(name)
    return await Promise.resolve(values[round] ?? NaN)
  }
  const seen = await inTurn(3, side('ours', [10, 30, 80]), side('peer', [10, 10, 20]))
  assert.deepEqual(order, ['ours', 'peer', 'peer', 'ours', 'ours', 'peer'])
  assert.deepEqual([seen.ours, seen.peer, seen.ratio], [30, 10, 3])
})

test('quantiles lie between the values around them', () => {
  assert.equal(quantile([4, 1, 3, 2], 0.5), 2.5)
  assert.equal(quantile([7], 0.99), 7)
  assert.equal(quantile([1, 2], 1), 2)
})

test('an aim is met by the ratio or by the value, on its side of the limit', () => {
  assert.equal(isMet(figure({ aim: atLeast('ratio', 2) })), true)
  assert.equal(isMet(figure({ aim: atMost('ratio', 1.9) })), false)
  assert.equal(isMet(figure({ aim: atMost('value', 4) })), true)
  assert.equal(isMet(figure({ aim: atLeast('value', 4.1) })), false)
  assert.equal(isMet(figure()), undefined)
})

test('the table is Markdown, and goes between the marks of a file alone', () => {
  const text = table([figure({ aim: atMost('value', 5) })])
  assert.match(text, /^\| doing it \| 4 ms \| not doing it \| 2 \| 2\.00 \| ≤ 5 ms ✓ \|$/m)
  const folder = mkdtempSync(join(tmpdir(), 'arcus-bench-'))
  try {
    const path = join(folder, 'README.md')
    writeFileSync(
      path,
      'before\n<!-- bench: made by `npm run bench -- --readme` -->\nold\n<!-- /bench -->\nafter\n',
    )
    writeBetweenMarks(path, text)
    const whole = readFileSync(path, 'utf8')
    assert.ok(whole.startsWith('before\n') && whole.endsWith('after\n') && whole.includes(text))
    assert.doesNotMatch(whole, /old/)
    writeFileSync(path, 'no marks')
    assert.throws(() => writeBetweenMarks(path, text), /has no place/)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a run in small comes to figures, with clouds, peers and clients in processes of their own', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'arcus-bench-'))
  try {
    const json = join(folder, 'figures.json')
    const names = ['creates', 'reconcile']
    const args = [join(import.meta.dirname, 'bench.ts'), '--smoke', '--json', json, ...names]
    await promisify(execFile)(process.execPath, args)
    const { figures } = JSON.parse(readFileSync(json, 'utf8')) as { figures: Figure[] }
    assert.deepEqual(new Set(figures.map((it) => it.bench)), new Set(names))
    for (const it of figures) {
      assert.ok(it.ours > 0 && it.peer > 0 && it.ratio > 0, `${it.what}: ${it.ours}, ${it.peer}`)
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
})
