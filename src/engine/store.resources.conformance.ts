import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '#lib/clock.ts'
import { ALL, keyOf } from './resource.ts'
import type { Change, Store, StoredResource } from './store.ts'
import {
  claim,
  create,
  drain,
  edit,
  leaseOn,
  mark,
  newId,
  type OpenStore,
  race,
  refused,
  removeNow,
  toy,
  until,
} from './store.testing.ts'

const names = (items: readonly StoredResource[]): string => items.map((it) => it.name).join(' ')
const numbered = (n: number): string => `n${String(n).padStart(2, '0')}`

export function resourcesConformance(store: string, open: OpenStore): void {
  const it = (what: string, run: (store: Store) => Promise<void>, how?: { changesKept: number }): void => {
    void test(`${store}: ${what}`, async () => {
      await using opened = await open(how)
      await run(opened)
    })
  }

  it('the newest id is known, also of what is alone or deleted', async (store) => {
    assert.equal(await store.newest(), undefined)
    const [one, two] = [toy(), toy()]
    await store.commit([create(two), create(one)])
    assert.equal(await store.newest(), two.id)
  })

  it('a resource is read as it was written', async (store) => {
    const owner = toy()
    const full = toy({
      owner: owner.id,
      labels: { env: 'prod', 'a.b/c': 'ü "quoted"' },
      spec: { nested: { list: [1, null, 'x', { deep: true }] }, empty: {}, zero: 0, text: '' },
      status: { none: null },
      version: 3,
    })
    await store.commit([create(owner), create(full)])
    assert.deepEqual(await store.get(full.id), full)
    assert.deepEqual(await store.get(owner.id), owner)
    assert.equal(await store.get(newId()), undefined)
    assert.deepEqual(await store.versions(), [
      { kind: 'toy', version: 1 },
      { kind: 'toy', version: 3 },
    ])
    assert.equal((await store.stats()).resources, 2)
  })

  it('what is read at one moment is the same, where a store knows moments', async (store) => {
    const one = toy()
    await store.commit([create(one)])
    const before = store.moment()
    const [read, again] = [await store.get(one.id), await store.get(one.id)]
    assert.deepEqual(again, read)
    assert.equal(store.moment(), before)
    await store.commit([edit(one, { name: 'another' })])
    if (before !== undefined) assert.notEqual(store.moment(), before)
    assert.equal((await store.get(one.id))?.name, 'another')
  })

  it('an id is taken once', async (store) => {
    const one = toy()
    const { won, refusals } = await race([1, 2, 3].map(() => store.commit([create(one)])))
    assert.equal(won, 1)
    assert.deepEqual(
      refusals.map((error) => error.code),
      ['already_exists', 'already_exists'],
    )
  })

  it('a commit is all or nothing', async (store) => {
    const one = toy()
    const other = toy()
    await store.commit([create(other), claim(other.id, { value: 'taken' })])
    const event = { stream: 'event', tenant: 'acme', at: 1, what: 'made', body: {} } as const
    await refused(
      store.commit([
        create(one, { terms: ['colour:red'] }),
        { do: 'pool', pool: 'quota', max: 5 },
        { do: 'record', record: event },
        claim(one.id, { value: 'free' }),
        claim(one.id, { value: 'taken' }),
      ]),
      'already_exists',
    )
    assert.equal(await store.get(one.id), undefined)
    assert.equal(await store.claim('names', 'free'), undefined)
    assert.equal((await store.pool('quota')).max, undefined)
    assert.deepEqual((await store.records({ stream: 'event', tenant: ALL, limit: 10 })).records, [])
    assert.equal((await store.list({ kind: 'toy', tenant: ALL })).total, 1)
    assert.equal((await store.list({ kind: 'toy', tenant: ALL, terms: ['colour:red'] })).total, 0)
  })

  it('a refused commit takes nothing of its neighbours back, and leaves nothing of itself', async (store) => {
    const holder = toy()
    await store.commit([create(holder), claim(holder.id, { value: 'taken' })])
    const made = Array.from({ length: 100 }, (_, n) => ({ n, resource: toy({ name: `n${n}` }) }))
    const { won, refusals } = await race(
      made.map(({ n, resource }) =>
        store.commit([
          create(resource, { terms: ['batch:1'] }),
          claim(resource.id, { value: n % 5 === 0 ? 'taken' : `v${n}` }),
        ]),
      ),
    )
    assert.deepEqual([won, refusals.length], [80, 20])
    for (const { n, resource } of made) {
      assert.equal((await store.get(resource.id)) !== undefined, n % 5 !== 0)
      assert.equal((await store.queue(keyOf(resource))) !== undefined, n % 5 !== 0)
    }
    assert.equal((await store.list({ kind: 'toy', tenant: 'acme', terms: ['batch:1'] })).total, 80)
  })

  it('a dry run checks everything and writes nothing', async (store) => {
    const one = toy()
    await store.commit([create(one), claim(one.id, {})], { dryRun: true })
    assert.equal(await store.get(one.id), undefined)
    assert.equal(await store.claim('names', 'web'), undefined)
    await store.commit([create(one), claim(one.id, {})])
    await refused(store.commit([create(toy()), claim(newId(), {})], { dryRun: true }), 'conflict')
  })

  it('of two new wishes on one generation one wins', async (store) => {
    const one = toy()
    await store.commit([create(one)])
    const { won, refusals } = await race(
      [1, 2, 3, 4].map((size) => store.commit([edit(one, { spec: { size } })])),
    )
    assert.equal(won, 1)
    assert.ok(refusals.every((error) => error.code === 'conflict' && error.details.rule === 'lost_race'))
    const after = await store.get(one.id)
    assert.deepEqual([after?.generation, after?.revision, after?.observed], [2, 2, 0])
    await refused(store.commit([edit(toy(), {})]), 'not_found')
    await store.commit([mark(one.id)])
    // Who read it before it was marked may decide anew; who read it as marked is told.
    await refused(store.commit([edit({ ...one, generation: 2 }, {})]), 'conflict', 'lost_race')
    const read = { ...one, generation: 2, deletedAt: one.createdAt }
    await refused(store.commit([edit(read, {})]), 'conflict', 'wrong_state')
  })

  it('wish and truth are written side by side and neither refuses the other', async (store) => {
    const one = toy()
    await store.commit([create(one, { terms: ['state:pending'] })])
    const lease = await leaseOn(store, keyOf(one))
    const status = { state: 'running' }
    await race([
      store.commit([edit(one, { spec: { size: 2 } }, { terms: ['size:2'] })]),
      store.commit([
        { do: 'status', id: one.id, lease, version: 1, status, observed: 1, terms: ['state:running'] },
      ]),
    ])
    const after = await store.get(one.id)
    assert.deepEqual([after?.spec, after?.status], [{ size: 2 }, status])
    assert.deepEqual([after?.generation, after?.observed, after?.revision], [2, 1, 3])
  })

  it('no child is born into a dying parent', async (store) => {
    for (let round = 0; round < 20; round++) {
      const parent = toy({ name: 'parent' })
      await store.commit([create(parent)])
      const owned = toy({ owner: parent.id })
      const referring = toy()
      const commits = [
        [create(owned)],
        [mark(parent.id)],
        [create(referring, { refs: [{ to: parent.id, onDelete: 'cascade' }] })],
      ]
      const order = [...commits.slice(round % 3), ...commits.slice(0, round % 3)]
      await race(order.map((mutations) => store.commit(mutations)))
      for (const { id } of [owned, referring]) {
        const child = await store.get(id)
        assert.ok(!child || child.deletedAt !== undefined, 'a live child of a dying parent')
      }
      const late = create(toy(), { refs: [{ to: parent.id, onDelete: 'cascade' }] })
      assert.match((await refused(store.commit([late]), 'conflict')).message, /toy parent is being deleted/)
      await refused(store.commit([create(toy({ owner: parent.id }))]), 'conflict')
    }
    await refused(store.commit([create(toy({ owner: newId() }))]), 'conflict')
  })

  it('of a blocking reference and the deletion of its target one wins', async (store) => {
    for (let round = 0; round < 20; round++) {
      const parent = toy()
      await store.commit([create(parent)])
      const child = create(toy(), { refs: [{ to: parent.id, onDelete: 'block' }] })
      const works = [store.commit([child]), store.commit([mark(parent.id)])]
      assert.equal((await race(round % 2 ? works.toReversed() : works)).won, 1)
    }
  })

  it('deleting takes along what is owned or cascades, and says by name what blocks', async (store) => {
    const vpc = toy({ kind: 'vpc', name: 'net' })
    const subnet = toy({ kind: 'subnet', name: 'sub' })
    const pod = toy({ kind: 'pod', name: 'web' })
    const replica = toy({ kind: 'replica', name: 'web-0', owner: pod.id })
    await store.commit([
      create(vpc),
      create(subnet, { refs: [{ to: vpc.id, onDelete: 'cascade' }] }),
      create(pod, {
        refs: [
          { to: subnet.id, onDelete: 'block' },
          { to: vpc.id, onDelete: 'block' },
        ],
      }),
      create(replica),
    ])
    const live = async (): Promise<string[]> => {
      const all = await Promise.all([vpc, subnet, pod, replica].map(({ id }) => store.get(id)))
      return all.flatMap((one) => (one && one.deletedAt === undefined ? [one.kind] : []))
    }
    const blocked = await refused(store.commit([mark(vpc.id)]), 'conflict', 'in_use')
    assert.deepEqual(blocked.details.blockers, [`pod web (${pod.id})`])
    const held = await refused(
      store.commit([mark(vpc.id, { follow: ['pod'], hold: ['replica'] })]),
      'conflict',
      'in_use',
    )
    assert.deepEqual(held.details.blockers, [`replica web-0 (${replica.id})`])
    assert.deepEqual(await live(), ['vpc', 'subnet', 'pod', 'replica'])
    await store.commit([mark(vpc.id, { follow: ['pod'] })])
    assert.deepEqual(await live(), [])
    const before = await store.get(vpc.id)
    await store.commit([mark(vpc.id)])
    assert.deepEqual(await store.get(vpc.id), before, 'marked twice is marked once')
    await refused(store.commit([mark(newId())]), 'not_found')
  })

  it('a marked resource no longer blocks, but nothing is removed under what still stands on it', async (store) => {
    const parent = toy({ name: 'parent' })
    const child = toy({ name: 'child' })
    await store.commit([create(parent), create(child, { refs: [{ to: parent.id, onDelete: 'block' }] })])
    await store.commit([mark(child.id)])
    await store.commit([mark(parent.id)])
    assert.deepEqual(
      (await store.dependents(parent.id)).map((one) => one.id),
      [child.id],
    )
    await refused(removeNow(store, parent), 'conflict', 'in_use')
    await drain(store)
    await removeNow(store, child)
    assert.deepEqual(await drain(store), [keyOf(parent)], 'the last one to go wakes what waits')
    await removeNow(store, parent)
    assert.equal(await store.get(parent.id), undefined)
    assert.deepEqual(await store.dependents(parent.id), [])
  })

  it('what refers to its own part can still go', async (store) => {
    const whole = toy()
    const part = toy({ owner: whole.id })
    await store.commit([
      create(whole),
      create(part),
      edit(whole, {}, { refs: [{ to: part.id, onDelete: 'block' }] }),
    ])
    await store.commit([mark(whole.id)])
    await removeNow(store, part)
    await removeNow(store, whole)
    assert.equal((await store.stats()).resources, 0)
  })

  it('only what is marked is removed', async (store) => {
    const one = toy()
    await store.commit([create(one)])
    await refused(removeNow(store, one), 'conflict', 'wrong_state')
  })

  it('pages go through a list once, in both directions', async (store) => {
    const all = Array.from({ length: 25 }, (_, n) => toy({ name: numbered(n) }))
    for (const one of all) await store.commit([create(one, { terms: ['group:a'] })])
    for (const terms of [[], ['group:a']]) {
      for (const newestFirst of [false, true]) {
        const seen: string[] = []
        let after: string | undefined
        do {
          const page = await store.list({
            kind: 'toy',
            tenant: 'acme',
            terms,
            limit: 10,
            newestFirst,
            ...(after === undefined ? {} : { after }),
          })
          assert.equal(page.total, 25)
          seen.push(...page.items.map((one) => one.name))
          after = page.next
        } while (after !== undefined && seen.length <= 25)
        const wanted = all.map((one) => one.name)
        assert.deepEqual(seen, newestFirst ? wanted.toReversed() : wanted)
      }
    }
    assert.equal((await store.list({ kind: 'toy', tenant: 'acme', limit: 25 })).next, undefined)
    await refused(store.list({ kind: 'toy', tenant: 'acme', limit: 0 }), 'invalid')
  })

  it('lists filter by every term and tenant, and totals are exact through every change', async (store) => {
    const red = toy({ name: 'red' })
    const blue = toy({ name: 'blue' })
    const other = toy({ name: 'other', tenant: 'globex' })
    await store.commit([
      create(red, { terms: ['colour:red', 'size:1', 'size:1'] }),
      create(blue, { terms: ['colour:blue', 'size:1'] }),
      create(other, { terms: ['colour:red', 'size:1'] }),
      create(toy({ kind: 'box' }), { terms: ['colour:red'] }),
    ])
    const list = async (tenant: string, terms: string[], deleted = true): Promise<string> => {
      const page = await store.list({ kind: 'toy', tenant, terms, deleted })
      assert.equal(page.total, page.items.length, `${tenant} ${terms.join()}`)
      return names(page.items)
    }
    assert.equal(await list('acme', []), 'red blue')
    assert.equal(await list(ALL, []), 'red blue other')
    assert.equal(await list('nobody', []), '')
    assert.equal(await list('acme', ['size:1']), 'red blue')
    assert.equal(await list('acme', ['size:1', 'colour:red']), 'red')
    assert.equal(await list(ALL, ['size:1', 'colour:red']), 'red other')
    assert.equal(await list('acme', ['colour:red', 'colour:blue']), '')
    assert.equal(await list('acme', ['colour:green', 'size:1']), '')
    await store.commit([edit(red, {}, { terms: ['colour:green', 'size:1'] })])
    assert.equal(await list('acme', ['colour:red']), '')
    assert.equal(await list('acme', ['colour:green', 'size:1']), 'red')
    assert.deepEqual((await store.terms(red.id)).toSorted(), ['colour:green', 'size:1'])
    await store.commit([mark(red.id)])
    const lease = await leaseOn(store, keyOf(red))
    const status = { do: 'status', id: red.id, lease, version: 1, status: {}, observed: 2 } as const
    await store.commit([{ ...status, terms: ['state:going', 'size:1'] }])
    await store.commit([{ ...status, terms: ['colour:green', 'size:1'] }])
    await store.drop(lease)
    assert.equal(await list('acme', ['state:going']), '')
    assert.equal(await list('acme', ['colour:green'], false), '')
    assert.equal(await list('acme', ['size:1']), 'red blue')
    assert.equal(await list('acme', ['size:1'], false), 'blue')
    assert.equal(await list('acme', ['size:1', 'colour:green'], false), '')
    assert.equal(await list(ALL, [], false), 'blue other')
    await removeNow(store, red)
    assert.equal(await list('acme', ['size:1']), 'blue')
    assert.equal(await list('acme', []), 'blue')
  })

  it('the feed tells every change once, in order, from a cursor of a list on', async (store) => {
    const one = toy()
    const start = await store.changes(undefined, 10)
    assert.deepEqual(start.changes, [])
    await store.commit([create(one)])
    const { cursor } = await store.list({ kind: 'toy', tenant: ALL })
    await store.commit([edit(one, {})])
    const lease = await leaseOn(store, keyOf(one))
    await store.commit([
      { do: 'status', id: one.id, lease, version: 1, status: {}, observed: 2, terms: [] },
      { do: 'finish', lease, attempt: 0 },
    ])
    await store.commit([mark(one.id)])
    await removeNow(store, one)
    const short = (changes: readonly Change[]): string =>
      changes.map((change) => `${change.what}:${change.revision}`).join(' ')
    const all = await store.changes(start.cursor, 10)
    assert.equal(short(all.changes), 'created:1 changed:2 status:3 deleted:4 removed:5')
    assert.deepEqual(
      { ...all.changes[0], cursor: '' },
      { cursor: '', kind: 'toy', id: one.id, tenant: 'acme', revision: 1, what: 'created' },
    )
    assert.equal(short((await store.changes(cursor, 10)).changes), 'changed:2 status:3 deleted:4 removed:5')
    const two = await store.changes(start.cursor, 2)
    assert.equal(short(two.changes), 'created:1 changed:2')
    assert.equal(short((await store.changes(two.cursor, 10)).changes), 'status:3 deleted:4 removed:5')
    assert.deepEqual((await store.changes(all.cursor, 10)).changes, [])
  })

  it('writers that race leave a feed without gaps or doubles', async (store) => {
    const { cursor: from } = await store.changes(undefined, 1)
    const made = Array.from({ length: 200 }, () => toy())
    const seen: string[] = []
    let cursor = from
    const reading = until(async () => {
      const page = await store.changes(cursor, 7)
      cursor = page.cursor
      seen.push(...page.changes.map((change) => change.id))
      return seen.length >= made.length
    }, 'every change')
    await Promise.all([reading, ...made.map((one) => store.commit([create(one)]))])
    assert.deepEqual(seen.toSorted(), made.map((one) => one.id).toSorted())
  })

  it(
    'an old cursor is gone, a recent one is not',
    async (store) => {
      const { cursor } = await store.changes(undefined, 1)
      for (let n = 0; n < 40; n++) await store.commit([create(toy())])
      await refused(store.changes(cursor, 10), 'gone')
      const page = await store.list({ kind: 'toy', tenant: ALL })
      await store.commit([create(toy())])
      assert.equal((await store.changes(page.cursor, 10)).changes.length, 1)
      await refused(store.changes('not a cursor', 10), 'invalid')
    },
    { changesKept: 10 },
  )

  it('a change is told to those who listen', async (store) => {
    let calls = 0
    const stop = store.onChange(() => calls++)
    await store.commit([create(toy())])
    await until(async () => calls > 0, 'a call')
    stop()
    const before = calls
    await store.commit([create(toy())])
    assert.equal(calls, before)
  })

  it('records are kept in order, by stream, tenant and subject', async (store) => {
    const record = (n: number, tenant: string, subject?: string) =>
      ({
        do: 'record',
        record: {
          stream: 'event',
          tenant,
          at: n,
          what: `e${n}`,
          body: { n },
          ...(subject ? { subject } : {}),
        },
      }) as const
    await store.commit([record(1, 'acme', 's1'), record(2, 'acme'), record(3, 'globex', 's1')])
    await store.commit([record(4, 'acme', 's1')])
    await store.commit([
      { do: 'record', record: { stream: 'audit', tenant: 'acme', at: 5, what: 'a', body: null } },
    ])
    const read = async (query: { tenant: string; subject?: string; newestFirst?: boolean }) =>
      (await store.records({ stream: 'event', limit: 10, ...query })).records.map((one) => one.what).join(' ')
    assert.equal(await read({ tenant: 'acme' }), 'e1 e2 e4')
    assert.equal(await read({ tenant: ALL }), 'e1 e2 e3 e4')
    assert.equal(await read({ tenant: 'acme', subject: 's1' }), 'e1 e4')
    assert.equal(await read({ tenant: 'acme', newestFirst: true }), 'e4 e2 e1')
    const first = await store.records({ stream: 'event', tenant: 'acme', limit: 2 })
    assert.deepEqual(
      first.records.map((one) => one.body),
      [{ n: 1 }, { n: 2 }],
    )
    assert.ok(first.next)
    const rest = await store.records({ stream: 'event', tenant: 'acme', limit: 2, after: first.next })
    assert.deepEqual(
      rest.records.map((one) => one.what),
      ['e4'],
    )
    assert.equal(rest.next, undefined)
    assert.equal(await store.forget('event', 4, 2), 2)
    assert.equal(await read({ tenant: ALL }), 'e3 e4')
    assert.equal(await store.forget('event', systemClock.now(), 100), 2)
    assert.equal((await store.records({ stream: 'audit', tenant: ALL, limit: 10 })).records.length, 1)
  })

  it('an upgrade rewrites the shape once and changes nothing else', async (store) => {
    const one = toy()
    await store.commit([create(one)])
    const { cursor } = await store.changes(undefined, 1)
    const upgrade = {
      do: 'upgrade',
      id: one.id,
      version: 2,
      spec: { big: 1 },
      status: { is: 'new' },
    } as const
    await refused(store.commit([{ ...upgrade, revision: 7 }]), 'conflict', 'lost_race')
    await store.commit([{ ...upgrade, revision: 1 }])
    await store.commit([{ ...upgrade, revision: 1 }])
    assert.deepEqual(await store.get(one.id), { ...one, version: 2, spec: { big: 1 }, status: { is: 'new' } })
    assert.deepEqual((await store.changes(cursor, 10)).changes, [])
    await refused(store.commit([edit(one, {})]), 'conflict', 'lost_race')
  })
}
