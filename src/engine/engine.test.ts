import assert from 'node:assert/strict'
import { test } from 'node:test'
import Type from 'typebox'
import { systemClock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'
import type { Engine } from './engine.ts'
import { testEngine } from './engine.testing.ts'
import { defineKind } from './kind.ts'
import { backoffMs, BACKOFF_MS_MAX } from './look.ts'
import { again, gone, type Reconciler, settled } from './reconcile.ts'
import { ALL, isSettled, keyOf, type ResourceOf } from './resource.ts'
import { refused, until } from './store.testing.ts'

const State = Type.Object({ state: Type.String() })
const net = defineKind({
  name: 'net',
  spec: Type.Object({ range: Type.String() }, { additionalProperties: false }),
  status: State,
  initial: { state: 'pending' },
  settleSecondsMax: 60,
  claims: (r) => [{ pool: 'net-name', value: r.name, ends: 'deletion', refusal: 'net exists' }],
})
const box = defineKind({
  name: 'box',
  spec: Type.Object(
    { net: Type.String(), parts: Type.Integer({ minimum: 0 }) },
    { additionalProperties: false },
  ),
  status: State,
  initial: { state: 'pending' },
  settleSecondsMax: 60,
  refs: (r) => [{ to: r.spec.net, onDelete: 'cascade' }],
  terms: (r) => [`net:${r.spec.net}`, `state:${r.status.state}`],
  wakes: (r) => [`net/${r.spec.net}`],
})
const part = defineKind({
  name: 'part',
  spec: Type.Object({ box: Type.String() }, { additionalProperties: false }),
  status: State,
  initial: { state: 'pending' },
  refs: (r) => [{ to: r.spec.box, onDelete: 'cascade' }],
  wakes: (r) => [`box/${r.spec.box}`],
})
const note = defineKind({
  name: 'note',
  spec: Type.Object({ text: Type.String() }, { additionalProperties: false }),
  status: Type.Object({}),
  initial: {},
})
const KINDS = [net, box, part, note]
type Box = ResourceOf<typeof box>

/** What happened in the world, in order; a real thing exists between its `up` and its `down`. */
function world() {
  const events: string[] = []
  const simple =
    (kind: typeof net | typeof part): Reconciler['reconcile'] =>
    async (r, look) => {
      if (r.deletedAt === undefined) {
        if (r.observed < r.generation) events.push(`up ${r.name}`)
        return settled({ state: 'up' })
      }
      if (look.dependents) return again(1000, `${kind.name} is not empty`)
      events.push(`down ${r.name}`)
      return gone
    }
  const boxes: Reconciler['reconcile'] = async (r: Box, { draft, dependents }) => {
    if (r.deletedAt !== undefined) {
      if (dependents) return again(1000, 'parts are left')
      events.push(`down ${r.name}`)
      return gone
    }
    const parts = await draft.list(part, { tenant: r.tenant, terms: [`owner:${r.id}`], deleted: false })
    for (let n = parts.length; n < r.spec.parts; n++)
      draft.create(part, { tenant: r.tenant, name: `${r.name}-${n}`, owner: r.id, spec: { box: r.id } })
    for (const extra of parts.slice(r.spec.parts)) draft.mark(extra)
    const ready = parts.filter(isSettled).length
    if (ready < r.spec.parts) return again(1000, `${ready} of ${r.spec.parts} parts`, { state: 'filling' })
    if (r.observed < r.generation) events.push(`up ${r.name}`)
    return settled({ state: 'full' })
  }
  const reconcilers: Reconciler[] = [
    { kind: net, reconcile: simple(net) },
    { kind: box, reconcile: boxes },
    { kind: part, reconcile: simple(part) },
  ]
  return { events, reconcilers }
}

async function netWithBox(engine: Engine, parts = 2) {
  return await engine.transact(async (draft) => {
    const one = draft.create(net, { tenant: 'acme', name: 'n', spec: { range: '10.0.0.0/8' } })
    const other = draft.create(box, { tenant: 'acme', name: 'b', spec: { net: one.id, parts } })
    return { net: one, box: other }
  })
}

test('a wish is made true with everything it owns, and stays put', async () => {
  await using it = await testEngine(KINDS)
  const { events, reconcilers } = world()
  const made = await netWithBox(it.engine)
  assert.equal(isSettled(made.box), false)
  await it.engine.settle(reconcilers, 10_000)
  const after = await it.engine.get(box, 'acme', made.box.id)
  assert.deepEqual([after?.status, after?.observed], [{ state: 'full' }, 1])
  assert.deepEqual(events.toSorted(), ['up b', 'up b-0', 'up b-1', 'up n'])
  const { revision } = after ?? {}
  await it.engine.wake(keyOf(made.box))
  await it.engine.settle(reconcilers, 10_000)
  assert.equal(
    (await it.engine.get(box, 'acme', made.box.id))?.revision,
    revision,
    'nothing new is not written',
  )
  assert.equal((await it.engine.store.stats()).queued, 0)
  const full = await it.engine.list(box, { tenant: 'acme', terms: ['state:full'] })
  assert.deepEqual([full.total, full.items[0]?.id], [1, made.box.id])
  assert.equal((await it.engine.list(box, { tenant: ALL, terms: ['state:pending'] })).total, 0)
})

test('what a kind says of its changes is recorded with each, from the first to the last', async () => {
  const told = defineKind({
    ...net,
    name: 'told',
    events: (before, after) => [
      {
        what: 'turned',
        body: [before, after].map((it) => it && [it.spec.range, it.status.state, it.deletedAt]),
      },
      ...(after ? [] : [{ what: 'left', subject: 'somebody', body: null }]),
    ],
  })
  await using it = await testEngine([told])
  const kind = told as unknown as typeof net
  const reconcilers: Reconciler[] = [
    {
      kind: told,
      reconcile: async (r) =>
        await Promise.resolve(r.deletedAt === undefined ? settled({ state: 'up' }) : gone),
    },
  ]
  const made = await it.engine.transact(
    async (draft) =>
      await Promise.resolve(draft.create(kind, { tenant: 'acme', name: 'n', spec: { range: 'a' } })),
  )
  const change = async (how: 'edit' | 'mark'): Promise<void> =>
    await it.engine.transact(async (draft) => {
      const now = await draft.get(kind, 'acme', made.id)
      assert.ok(now)
      if (how === 'edit') draft.edit(kind, now, { spec: { range: 'b' } })
      else draft.mark(now)
    })
  await it.engine.settle(reconcilers, 1000)
  await it.engine.wake(keyOf(made))
  await it.engine.settle(reconcilers, 1000)
  await change('edit')
  await it.engine.settle(reconcilers, 1000)
  await change('mark')
  const at = it.engine.clock.now()
  await it.engine.settle(reconcilers, 1000)
  const { records } = await it.engine.store.records({ stream: 'event', tenant: 'acme', limit: 100 })
  assert.deepEqual(
    records.map(({ what, subject, body }) => [what, subject === made.id ? 'it' : subject, body]),
    [
      ['turned', 'it', [null, ['a', 'pending', null]]],
      [
        'turned',
        'it',
        [
          ['a', 'pending', null],
          ['a', 'up', null],
        ],
      ],
      [
        'turned',
        'it',
        [
          ['a', 'up', null],
          ['b', 'up', null],
        ],
      ],
      [
        'turned',
        'it',
        [
          ['b', 'up', null],
          ['b', 'up', null],
        ],
      ],
      [
        'turned',
        'it',
        [
          ['b', 'up', null],
          ['b', 'up', at],
        ],
      ],
      ['turned', 'it', [['b', 'up', at], null]],
      ['left', 'somebody', null],
    ],
  )
})

test('a smaller wish removes what is too much', async () => {
  await using it = await testEngine(KINDS)
  const { events, reconcilers } = world()
  const made = await netWithBox(it.engine, 3)
  await it.engine.settle(reconcilers, 10_000)
  await it.engine.transact(async (draft) => {
    const current = await draft.get(box, 'acme', made.box.id)
    assert.ok(current)
    return draft.edit(box, current, { spec: { ...current.spec, parts: 1 } })
  })
  await it.engine.settle(reconcilers, 10_000)
  assert.deepEqual(events.filter((one) => one.startsWith('down')).toSorted(), ['down b-1', 'down b-2'])
  assert.equal((await it.engine.list(part, { tenant: 'acme' })).total, 1)
})

test('what goes, goes from the leaves to the root', async () => {
  await using it = await testEngine(KINDS)
  const { events, reconcilers } = world()
  const made = await netWithBox(it.engine)
  await it.engine.settle(reconcilers, 10_000)
  events.length = 0
  await it.engine.transact(async (draft) => draft.mark(made.net))
  const marked = await it.engine.get(net, 'acme', made.net.id)
  assert.ok(marked)
  assert.deepEqual(
    (await it.engine.explain(marked)).waitingFor.map((one) => one.kind),
    ['box'],
  )
  await it.engine.settle(reconcilers, 500)
  assert.deepEqual(events, ['down b-0', 'down b-1', 'down b', 'down n'])
  assert.deepEqual(await it.engine.store.stats().then((all) => [all.resources, all.queued]), [0, 0])
})

test('a reconciler that says gone too early is asked again when nothing stands on it any more', async () => {
  await using it = await testEngine(KINDS)
  const { reconcilers } = world()
  const hasty: Reconciler = {
    kind: net,
    reconcile: async (r) => (r.deletedAt === undefined ? settled({ state: 'up' }) : gone),
  }
  const all = [hasty, ...reconcilers.slice(1)]
  const stuck = [box, part].map((kind): Reconciler => ({
    kind,
    reconcile: async () => again(30_000, 'busy'),
  }))
  const made = await netWithBox(it.engine)
  await it.engine.settle(all, 10_000)
  await it.engine.transact(async (draft) => draft.mark(made.net))
  const [work] = await it.engine.store.take(it.clock.now(), 10, 1e9, { box: 0, part: 0 })
  assert.equal(work?.lease.key, keyOf(made.net))
  await it.engine.store.drop(work.lease)
  await it.engine.settle([hasty, ...stuck])
  const marked = await it.engine.get(net, 'acme', made.net.id)
  assert.ok(marked)
  assert.match((await it.engine.explain(marked)).queue?.reason ?? '', /^waits for box b \(.*\) to go$/)
  await it.engine.settle(all, 40_000)
  assert.equal((await it.engine.store.stats()).resources, 0)
})

test('what nothing reconciles is settled at once and goes when asked', async () => {
  await using it = await testEngine(KINDS, { reconciled: ['net'] })
  const one = await it.engine.transact(async (draft) =>
    draft.create(note, { tenant: 'acme', name: 'x', spec: { text: 'a' } }),
  )
  assert.ok(isSettled(one))
  assert.equal((await it.engine.store.stats()).queued, 0)
  const edited = await it.engine.transact(async (draft) => draft.edit(note, one, { spec: { text: 'b' } }))
  assert.ok(isSettled(edited))
  assert.deepEqual(await it.engine.get(note, 'acme', one.id), edited)
  await it.engine.transact(async (draft) => draft.mark(edited))
  await it.engine.settle([])
  assert.equal(await it.engine.get(note, 'acme', one.id), undefined)
})

test('a failing look backs off, tells why, turns overdue, and recovers', async () => {
  await using it = await testEngine(KINDS)
  let works = false
  const looks: number[] = []
  const flaky: Reconciler = {
    kind: net,
    reconcile: async (_, { attempt }) => {
      looks.push(attempt)
      if (!works) throw new CloudError('unavailable', 'no route to the host')
      return settled({ state: 'up' })
    },
  }
  const one = await it.engine.transact(async (draft) =>
    draft.create(net, { tenant: 'acme', name: 'n', spec: { range: 'x' } }),
  )
  await it.engine.settle([flaky], 30_000)
  assert.deepEqual(looks, [0, 1, 2, 3, 4, 5, 6])
  const failing = await it.engine.get(net, 'acme', one.id)
  assert.ok(failing && failing.overdue === undefined)
  const why = await it.engine.explain(failing)
  assert.deepEqual([why.settled, why.queue?.reason, why.queue?.attempt], [false, 'no route to the host', 7])
  await it.engine.settle([flaky], 60_000)
  const late = await it.engine.get(net, 'acme', one.id)
  assert.equal(late?.overdue, 'not settled within 60 s: no route to the host')
  works = true
  await it.engine.settle([flaky], 300_000)
  const after = await it.engine.get(net, 'acme', one.id)
  assert.ok(after && isSettled(after))
  assert.equal(after.overdue, undefined)
  assert.equal((await it.engine.explain(after)).queue, undefined)
})

test('a settled resource that drifts and does not come back turns overdue too', async () => {
  await using it = await testEngine(KINDS)
  let fine = true
  const drifting: Reconciler = {
    kind: net,
    reconcile: async () => (fine ? settled({ state: 'up' }, 4999.5) : again(4999.5, 'its link is down')),
  }
  const one = await it.engine.transact(async (draft) =>
    draft.create(net, { tenant: 'acme', name: 'n', spec: { range: 'x' } }),
  )
  await it.engine.settle([drifting], 20_000)
  assert.ok(isSettled((await it.engine.get(net, 'acme', one.id)) ?? one))
  fine = false
  await it.engine.settle([drifting], 50_000)
  assert.equal((await it.engine.get(net, 'acme', one.id))?.overdue, undefined)
  await it.engine.settle([drifting], 30_000)
  assert.match((await it.engine.get(net, 'acme', one.id))?.overdue ?? '', /its link is down/)
  fine = true
  await it.engine.settle([drifting], 10_000)
  assert.equal((await it.engine.get(net, 'acme', one.id))?.overdue, undefined)
})

test('what is overdue says what is in the way now, and what to do', async () => {
  const advised = { ...net, states: { pending: { advice: 'Call a plumber' } } }
  await using it = await testEngine([advised])
  let why = 'no water'
  const waiting: Reconciler = { kind: advised, reconcile: async () => again(1000, why) }
  const one = await it.engine.transact(async (draft) =>
    draft.create(advised, { tenant: 'acme', name: 'n', spec: { range: 'x' } }),
  )
  await it.engine.settle([waiting], 61_000)
  const overdue = async (): Promise<string | undefined> =>
    (await it.engine.get(advised, 'acme', one.id))?.overdue
  assert.equal(await overdue(), 'not settled within 60 s: no water. Call a plumber')
  why = 'no pipe.'
  await it.engine.settle([waiting], 2000)
  assert.equal(await overdue(), 'not settled within 60 s: no pipe. Call a plumber')
  const how = await it.engine.explain((await it.engine.get(advised, 'acme', one.id)) ?? one)
  assert.deepEqual([how.state, how.advice, how.since], ['pending', 'Call a plumber', one.createdAt])
})

test('a look that hangs is told of', async () => {
  await using it = await testEngine([net])
  const hanging: Reconciler = { kind: net, reconcile: () => new Promise(() => {}) }
  const one = await it.engine.transact(async (draft) =>
    draft.create(net, { tenant: 'acme', name: 'n', spec: { range: 'x' } }),
  )
  const stop = new AbortController()
  const running = it.engine.run([hanging], [], stop.signal)
  const reason = async (): Promise<string | undefined> => (await it.engine.explain(one)).queue?.reason
  await until(async () => {
    await it.clock.advance(1000)
    return /its driver has not answered for 1\d s/.test((await reason()) ?? '')
  }, 'a look that takes long')
  await until(async () => {
    await it.clock.advance(1000)
    const late = await it.engine.get(net, 'acme', one.id)
    return /^not settled within 60 s: its driver has not answered for \d+ s/.test(late?.overdue ?? '')
  }, 'it is overdue')
  stop.abort()
  await running
})

test('a status that its schema does not allow is refused, and the old one stays', async () => {
  await using it = await testEngine(KINDS)
  const wrong: Reconciler = { kind: net, reconcile: async () => settled({ state: 5 }) }
  const one = await it.engine.transact(async (draft) =>
    draft.create(net, { tenant: 'acme', name: 'n', spec: { range: 'x' } }),
  )
  await it.engine.settle([wrong])
  assert.match(
    (await it.engine.explain(one)).queue?.reason ?? '',
    /wrong status: status\.state must be string/,
  )
  assert.deepEqual((await it.engine.get(net, 'acme', one.id))?.status, { state: 'pending' })
})

test('a look commits nothing of what it collected when it fails', async () => {
  await using it = await testEngine(KINDS)
  let fails = true
  const reconcile: Reconciler['reconcile'] = async (r, { draft }) => {
    draft.create(note, { tenant: r.tenant, name: 'child', owner: r.id, spec: { text: '' } })
    draft.record({ stream: 'event', tenant: r.tenant, what: 'net.made', body: {} })
    if (fails) throw new Error('half-way')
    return settled({ state: 'up' })
  }
  await it.engine.transact(async (draft) =>
    draft.create(net, { tenant: 'acme', name: 'n', spec: { range: 'x' } }),
  )
  const count = async (): Promise<number[]> => [
    (await it.engine.list(note, { tenant: 'acme' })).total,
    (await it.engine.store.records({ stream: 'event', tenant: 'acme', limit: 10 })).records.length,
  ]
  await it.engine.settle([{ kind: net, reconcile }])
  assert.deepEqual(await count(), [0, 0])
  fails = false
  await it.engine.settle([{ kind: net, reconcile }], 5000)
  assert.deepEqual(await count(), [1, 1])
})

test('verbs that race are run again until they fit', async () => {
  await using it = await testEngine(KINDS)
  let runs = 0
  // Each takes the lowest free number: all want the same one at first.
  const made = await Promise.all(
    Array.from({ length: 40 }, () =>
      it.engine.transact(async (draft) => {
        runs++
        const taken = new Set((await draft.claims('numbers')).map((one) => one.value))
        const free = Array.from({ length: 100 }, (_, n) => String(n)).find((n) => !taken.has(n)) ?? ''
        const one = draft.create(note, { tenant: 'acme', name: free, spec: { text: free } })
        draft.claim({ pool: 'numbers', value: free, ends: 'removal' }, one.id)
        return free
      }),
    ),
  )
  assert.deepEqual(
    made.map(Number).toSorted((a, b) => a - b),
    Array.from({ length: 40 }, (_, n) => n),
  )
  assert.ok(runs <= 120, `${runs} runs`)
})

test('of verbs that must not both pass, the guard lets one', async () => {
  await using it = await testEngine(KINDS)
  const results = await Promise.allSettled(
    Array.from({ length: 10 }, (_, n) =>
      it.engine.transact(async (draft) => {
        await draft.guard('one default')
        if ((await draft.list(note, { tenant: 'acme' })).length)
          throw new CloudError('conflict', 'there is one')
        return draft.create(note, { tenant: 'acme', name: `d${n}`, spec: { text: '' } })
      }),
    ),
  )
  assert.equal(results.filter((one) => one.status === 'fulfilled').length, 1)
  assert.ok(results.every((one) => one.status === 'fulfilled' || /there is one/.test(String(one.reason))))
})

test('a lost race that never ends is told, not tried for ever', async () => {
  await using it = await testEngine(KINDS)
  const one = await it.engine.transact(async (draft) =>
    draft.create(note, { tenant: 'acme', name: 'x', spec: { text: 'a' } }),
  )
  const stale = { ...one, generation: 7 }
  let runs = 0
  await refused(
    it.engine.transact(async (draft) => {
      runs++
      return draft.edit(note, stale, { spec: { text: 'b' } })
    }),
    'conflict',
    'lost_race',
  )
  assert.equal(runs, 10)
})

test('a dry run answers as the real one would and leaves nothing', async () => {
  await using it = await testEngine(KINDS)
  const make = async (how: { dryRun?: boolean }) =>
    await it.engine.transact(
      async (draft) => draft.create(net, { tenant: 'acme', name: 'n', spec: { range: 'x' } }),
      how,
    )
  const dry = await make({ dryRun: true })
  assert.equal(dry.name, 'n')
  assert.equal(await it.engine.get(net, 'acme', dry.id), undefined)
  await make({})
  await refused(make({ dryRun: true }), 'already_exists')
})

test('a foreign tenant sees nothing', async () => {
  await using it = await testEngine(KINDS)
  const one = await it.engine.transact(async (draft) =>
    draft.create(note, { tenant: 'acme', name: 'x', spec: { text: 'a' } }),
  )
  assert.equal(await it.engine.get(note, 'globex', one.id), undefined)
  assert.equal(await it.engine.get(net, 'acme', one.id), undefined, 'nor one of another kind')
  assert.deepEqual(await it.engine.get(note, ALL, one.id), one)
  await it.engine.transact(async (draft) => {
    assert.equal(await draft.get(note, 'globex', one.id), undefined)
    assert.deepEqual(await draft.get(note, 'acme', one.id), one)
  })
})

test('tenants take everything of theirs along', async () => {
  const tenant = defineKind({
    name: 'tenant',
    scope: 'platform',
    spec: Type.Object({}),
    status: Type.Object({}),
    initial: {},
  })
  await using it = await testEngine([...KINDS, tenant], { tenantRefs: true })
  const acme = await it.engine.transact(async (draft) =>
    draft.create(tenant, { tenant: 'platform', name: 'acme', spec: {} }),
  )
  await it.engine.transact(async (draft) =>
    draft.create(note, { tenant: acme.id, name: 'x', spec: { text: 'a' } }),
  )
  await it.engine.transact(async (draft) => draft.mark(acme))
  const late = it.engine.transact(async (draft) =>
    draft.create(note, { tenant: acme.id, name: 'y', spec: { text: 'a' } }),
  )
  await refused(late, 'conflict')
  await it.engine.settle([])
  assert.equal((await it.engine.store.stats()).resources, 0)
})

test('a restart goes on where the last process stopped', async () => {
  await using it = await testEngine(KINDS)
  const { reconcilers } = world()
  const made = await netWithBox(it.engine)
  const [leased] = await it.engine.store.take(it.clock.now(), 1, 1e9)
  assert.ok(leased, 'a look that was under way when the process died')
  await it.reopen()
  await it.engine.settle(reconcilers, 10_000)
  assert.equal((await it.engine.get(box, 'acme', made.box.id))?.status.state, 'full')
})

test('data of an older schema is upgraded when read and stored so when written', async () => {
  const old = defineKind({
    name: 'thing',
    spec: Type.Object({ mb: Type.Integer() }),
    status: Type.Object({ ok: Type.Boolean() }),
    initial: { ok: false },
  })
  const current = defineKind({
    name: 'thing',
    version: 3,
    upgrades: {
      1: ({ spec, status }) => ({
        spec: { bytes: Number(spec['mb']) * 1024 },
        status: { is: status['ok'] ? 'up' : 'new' },
      }),
      2: ({ spec, status }) => ({ spec: { ...spec, label: 'none' }, status }),
    },
    spec: Type.Object({ bytes: Type.Integer(), label: Type.String() }, { additionalProperties: false }),
    status: Type.Object({ is: Type.String() }, { additionalProperties: false }),
    initial: { is: 'new' },
  })
  await using it = await testEngine([old])
  const make = async (name: string) =>
    await it.engine.transact(async (draft) => draft.create(old, { tenant: 'acme', name, spec: { mb: 2 } }))
  const [one, other] = [await make('one'), await make('other')]
  await it.engine.store.take(it.clock.now(), 10, 1e9)
  const engine = await it.reopen([current])
  await engine.check()
  const read = await engine.get(current, 'acme', one.id)
  assert.deepEqual([read?.spec, read?.status], [{ bytes: 2048, label: 'none' }, { is: 'new' }])
  assert.equal((await engine.store.get(one.id))?.version, 1)
  await engine.transact(async (draft) => {
    const it = await draft.get(current, 'acme', one.id)
    assert.ok(it)
    return draft.edit(current, it, { spec: { ...it.spec, label: 'new' } })
  })
  const stored = await engine.store.get(one.id)
  assert.deepEqual(
    [stored?.version, stored?.spec, stored?.status],
    [3, { bytes: 2048, label: 'new' }, { is: 'new' }],
  )
  await engine.settle([{ kind: current, reconcile: async () => settled({ is: 'up' }) }])
  const looked = await engine.store.get(other.id)
  assert.deepEqual(
    [looked?.version, looked?.spec, looked?.status],
    [3, { bytes: 2048, label: 'none' }, { is: 'up' }],
  )
  const behind = await it.reopen([old])
  assert.match((await refused(behind.check(), 'unsupported')).message, /schema 3, this version knows 1/)
  await refused(behind.get(old, 'acme', one.id), 'unsupported')
})

test('backoff doubles up to its maximum and spreads', () => {
  const at = (attempt: number, random: number): number => backoffMs(attempt, () => random)
  assert.deepEqual([at(0, 0.999), at(1, 0.999), at(3, 0.999)], [500, 1000, 3998])
  assert.equal(at(0, 0), 250)
  assert.equal(at(1000, 0.999999), BACKOFF_MS_MAX)
  assert.equal(at(1000, 0), BACKOFF_MS_MAX / 2)
})

test('a running engine looks within milliseconds, keeps to its bounds, and stops when told', async () => {
  await using it = await testEngine(KINDS, { clock: systemClock })
  const { engine } = it
  const stop = new AbortController()
  let now = 0
  let most = 0
  const begun = new Map<string, number>()
  const notes: Reconciler = {
    kind: note,
    concurrency: 3,
    reconcile: async (r) => {
      begun.set(r.id, performance.now())
      most = Math.max(most, ++now)
      await new Promise((resolve) => setImmediate(resolve))
      now--
      return settled({})
    },
  }
  let patrols = 0
  const looked: string[] = []
  const nets: Reconciler = {
    kind: net,
    reconcile: async (r) => {
      looked.push(r.name)
      return settled({ state: 'up' })
    },
  }
  const made = await engine.transact(async (draft) =>
    draft.create(net, { tenant: 'acme', name: 'n', spec: { range: 'x' } }),
  )
  const patrol = {
    name: 'audit',
    everyMs: 3_600_000,
    run: async () => {
      patrols++
      return [keyOf(made)]
    },
  }
  await engine.settle([notes, nets])
  assert.deepEqual(looked, ['n'])
  const running = engine.run([notes, nets], [patrol], stop.signal)
  const waits: number[] = []
  for (let n = 0; n < 50; n++) {
    const one = await engine.transact(async (draft) =>
      draft.create(note, { tenant: 'acme', name: `x${n}`, spec: { text: '' } }),
    )
    const from = performance.now()
    waits.push((await until(async () => begun.get(one.id), 'a look')) - from)
  }
  const median = waits.toSorted((a, b) => a - b)[25] ?? Infinity
  // A poll would show as hundreds.
  assert.ok(median < 10, `median of ${median} ms`)
  await Promise.all(
    Array.from({ length: 50 }, (_, n) =>
      engine.transact(async (draft) =>
        draft.create(note, { tenant: 'acme', name: `y${n}`, spec: { text: '' } }),
      ),
    ),
  )
  await until(async () => begun.size === 100, 'all looks')
  assert.ok(most > 1 && most <= 3, `${most} at once`)
  assert.equal(patrols, 1)
  await until(async () => looked.length >= 2, 'the patrol to wake its key')
  stop.abort()
  await running
  assert.equal(now, 0)
})

test('what a patrol tells once is looked at, also when the store refuses it at first', async () => {
  await using it = await testEngine(KINDS, { clock: systemClock })
  const { engine } = it
  let looks = 0
  const nets: Reconciler = {
    kind: net,
    reconcile: async () => {
      looks++
      return settled({ state: 'up' })
    },
  }
  const made = await engine.transact(async (draft) =>
    draft.create(net, { tenant: 'acme', name: 'n', spec: { range: 'x' } }),
  )
  await engine.settle([nets])
  const { commit } = engine.store
  engine.store.commit = async () => {
    engine.store.commit = commit
    throw new CloudError('unavailable', 'the disk is full')
  }
  const news = [keyOf(made)]
  const patrol = { name: 'news', everyMs: 1, run: async () => news.splice(0) }
  const stop = new AbortController()
  const running = engine.run([nets], [patrol], stop.signal)
  await until(async () => looks === 2, 'a look')
  stop.abort()
  await running
})

test('a look of which only the commit is left keeps no other from beginning', async () => {
  await using it = await testEngine(KINDS, { clock: systemClock })
  const { engine } = it
  const { commit } = engine.store
  const held: (() => void)[] = []
  Object.assign(engine.store, {
    commit: async (...[mutations, how]: Parameters<typeof commit>) => {
      if (mutations.some(({ do: what }) => what === 'finish'))
        await new Promise<void>((resolve) => held.push(resolve))
      await commit(mutations, how)
    },
  })
  const stop = new AbortController()
  let now = 0
  let most = 0
  const one: Reconciler = {
    kind: note,
    concurrency: 1,
    reconcile: async () => {
      most = Math.max(most, ++now)
      await new Promise((resolve) => setImmediate(resolve))
      now--
      return settled({})
    },
  }
  const running = engine.run([one], [], stop.signal)
  await engine.transact(async (draft) => {
    for (const name of ['a', 'b', 'c']) draft.create(note, { tenant: 'acme', name, spec: { text: '' } })
    await Promise.resolve()
  })
  await until(async () => held.length === 3, 'all three to wait for their commits')
  assert.equal(most, 1)
  for (const letGo of held) letGo()
  const all = async () => (await engine.list(note, { tenant: 'acme' })).items
  await until(async () => (await all()).every(isSettled), 'what they saw to be kept')
  stop.abort()
  await running
})

test('what a stopped engine had taken and not begun is there for the next', async () => {
  await using it = await testEngine(KINDS, { clock: systemClock })
  const { engine } = it
  const stop = new AbortController()
  const { promise: stuck, resolve: stick } = Promise.withResolvers<void>()
  let looks = 0
  const one: Reconciler = {
    kind: note,
    concurrency: 1,
    reconcile: async () => {
      if (++looks < 20) return settled({})
      stick()
      return await new Promise(() => {})
    },
  }
  const names = Array.from({ length: 60 }, (_, n) => `x${n}`)
  await engine.transact(async (draft) => {
    for (const name of names) draft.create(note, { tenant: 'acme', name, spec: { text: '' } })
    await Promise.resolve()
  })
  const running = engine.run([one], [], stop.signal)
  await stuck
  stop.abort()
  await running
  assert.equal(looks, 20)
  assert.equal((await engine.store.take(systemClock.now(), 100, 1000)).length, 60 - 19)
})

test('a stopped engine tells its looks, waits for none that does not listen, and leaves their work', async () => {
  await using it = await testEngine(KINDS, { clock: systemClock })
  const { engine } = it
  const stop = new AbortController()
  let told = false
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
  const stuck: Reconciler = {
    kind: note,
    reconcile: async (_, { signal }) => {
      signal.addEventListener('abort', () => (told = true))
      begin()
      return await new Promise(() => {})
    },
  }
  const running = engine.run([stuck], [], stop.signal)
  const one = await engine.transact(async (draft) =>
    draft.create(note, { tenant: 'acme', name: 'x', spec: { text: '' } }),
  )
  await begun
  stop.abort()
  await running
  assert.ok(told)
  const [work] = await engine.store.take(systemClock.now(), 10, 1000)
  assert.deepEqual([work?.lease.key, work?.attempt], [keyOf(one), 0], 'not counted as a failure')
})
