import assert from 'node:assert/strict'
import { test } from 'node:test'
import { itemsOf } from './apply.ts'
import type { Resource } from './client.ts'
import { rowsOf, stateOf } from './columns.ts'
import { checkedUrl } from './config.ts'
import { splitReference } from './resources.ts'
import { eventsOf, type ServerEvent } from './sse.ts'
import { age, bytes, table } from './table.ts'

const NOW = Date.parse('2026-03-01T12:00:00.000Z')

const resource = (given: Partial<Resource>): Resource => ({
  kind: 'workload',
  id: '019b8d99-6900-7003-9bb9-aff3b82118a7',
  tenant: 't',
  name: 'web',
  labels: {},
  spec: {},
  status: {},
  generation: 1,
  observed: 1,
  revision: 1,
  createdAt: '2026-03-01T11:00:00.000Z',
  updatedAt: '2026-03-01T11:00:00.000Z',
  settled: true,
  ...given,
})

test('a table is aligned, and a name cannot write to the terminal', () => {
  assert.equal(
    table(
      ['A', 'LONG', 'Z'],
      [
        ['xx', 'y', 'last'],
        ['', 'ü', ''],
      ],
    ),
    'A   LONG  Z\nxx  y     last\n-   ü     -\n',
  )
  assert.equal(table(['A'], [['x\u001B[2Jy\nz']]), 'A\nx [2Jy z\n')
})

test('ages and sizes are short', () => {
  const ago = (seconds: number): string => age(new Date(NOW - seconds * 1000).toISOString(), NOW)
  assert.deepEqual([0, 59, 60, 3599, 3600, 86_400, 172_800, -5].map(ago), [
    '0s',
    '59s',
    '1m',
    '59m',
    '1h',
    '24h',
    '2d',
    '0s',
  ])
  assert.deepEqual([0, 1023, 1024, 1536, 8 << 20, 150.4 * 2 ** 30].map(bytes), [
    '0 B',
    '1023 B',
    '1 KiB',
    '1.5 KiB',
    '8 MiB',
    '150 GiB',
  ])
})

test('the state of a resource says first what is being done to it', () => {
  assert.equal(stateOf(resource({ status: { state: 'running' } })), 'running')
  assert.equal(
    stateOf(resource({ status: { state: 'running' }, deletedAt: '2026-03-01T11:00:00.000Z' })),
    'deleting',
  )
  assert.equal(stateOf(resource({ status: { phase: 'pending' }, overdue: 'no image' })), 'pending (overdue)')
  assert.deepEqual([stateOf(resource({})), stateOf(resource({ settled: false }))], ['ready', 'pending'])
})

test('a kind nobody thought of gets a table too, and ids become names where they are known', () => {
  const unknown = rowsOf('gadget', [resource({ kind: 'gadget' })], { names: new Map(), nowMs: NOW })
  assert.deepEqual(unknown.header, ['NAME', 'STATE', 'AGE', 'ID'])
  assert.deepEqual(unknown.rows[0]?.slice(0, 3), ['web', 'ready', '1h'])
  const { header, rows } = rowsOf('subnet', [resource({ spec: { vpc: 'id-1', cidr: '10.0.0.0/24' } })], {
    names: new Map([['id-1', 'production']]),
    nowMs: NOW,
  })
  assert.equal(rows[0]?.[header.indexOf('VPC')], 'production')
})

test('a document may be a list, an object with resources or items, or several of one', () => {
  const vpc = { kind: 'vpc', name: 'a' }
  for (const text of [
    '[{ kind: vpc, name: a }]',
    'resources: [{ kind: vpc, name: a }]',
    'items: [{ kind: vpc, name: a, id: x, status: {}, generation: 4, settled: true }]',
    '{"kind":"vpc","name":"a"}',
    '---\n---\nkind: vpc\nname: a\n',
  ])
    assert.deepEqual(itemsOf(text, 'test'), [vpc], text)
  const several = 'kind: vpc\nname: a\n---\nkind: subnet\nname: b\nlabels: { x: y }\nspec: { vpc: a }\n'
  assert.deepEqual(itemsOf(several, 'test'), [
    vpc,
    { kind: 'subnet', name: 'b', labels: { x: 'y' }, spec: { vpc: 'a' } },
  ])
  assert.throws(() => itemsOf('a: &a [*a, *a]\nb: [*a', 'test'), /not YAML/)
})

test('events are read whatever way they are cut', async () => {
  const text =
    'retry: 1000\n: beat\n\nevent: change\nid: 7\ndata: {"a":\ndata: "ü"}\n\r\ndata: x\n\nevent: lost\ndata: half'
  for (const size of [1, 3, 1000]) {
    async function* body(): AsyncGenerator<Uint8Array> {
      const bytes = Buffer.from(text)
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
    }
    const seen: ServerEvent[] = []
    for await (const it of eventsOf(body())) seen.push(it)
    assert.deepEqual(seen, [
      { event: 'change', id: '7', data: '{"a":\n"ü"}' },
      { event: 'message', data: 'x' },
    ])
  }
})

test('a reference is KIND/NAME or KIND NAME', () => {
  assert.deepEqual(splitReference(['vpc/a']), { kind: 'vpc', names: ['a'] })
  assert.deepEqual(splitReference(['workload/production/web']), {
    kind: 'workload',
    names: ['production/web'],
  })
  assert.deepEqual(splitReference(['workload', 'production/web']), {
    kind: 'workload',
    names: ['production/web'],
  })
})

test('an address is a URL without a password', () => {
  assert.equal(checkedUrl('http://127.0.0.1:8080/'), 'http://127.0.0.1:8080')
  for (const wrong of ['127.0.0.1:8080', 'ftp://x', 'http://a:b@c', ''])
    assert.throws(() => checkedUrl(wrong), /URL/)
})
