import assert from 'node:assert/strict'
import { test } from 'node:test'
import Type from 'typebox'
import type { Draft } from './draft.ts'
import { testEngine } from './engine.testing.ts'
import { defineKind } from './kind.ts'
import { refused } from './store.testing.ts'

const host = defineKind({
  name: 'host',
  spec: Type.Object(
    {
      zone: Type.String(),
      address: Type.Optional(Type.String({ format: 'ipv4' })),
      ports: Type.Array(Type.Object({ port: Type.Integer({ minimum: 1 }) }, { additionalProperties: false })),
      password: Type.Optional(Type.String({ minLength: 3, maxLength: 12 })),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({ state: Type.String() }),
  initial: { state: 'pending' },
  immutable: ['zone'],
  secret: ['password'],
  claims: (r) =>
    r.spec.address === undefined ? [] : [{ pool: 'addresses', value: r.spec.address, ends: 'removal' }],
  terms: (r) => [`zone:${r.spec.zone}`],
})
const input = { tenant: 'acme', name: 'h', spec: { zone: 'a', ports: [] } }

const withDraft = async (run: (draft: Draft) => Promise<void>, dryRun = false): Promise<void> => {
  await using it = await testEngine([host])
  await it.engine.transact(run, { dryRun })
}

test('what does not fit the schema is refused with its field', async () => {
  await using it = await testEngine([host])
  const make = (spec: unknown) =>
    refused(
      it.engine.transact(async (draft) => draft.create(host, { ...input, spec: spec as typeof input.spec })),
      'invalid',
    )
  const field = async (spec: unknown): Promise<string | undefined> => (await make(spec)).details.field
  assert.equal(await field({ ports: [] }), 'spec.zone')
  assert.equal(await field({ zone: 'a', ports: [{ port: 0 }] }), 'spec.ports.0.port')
  assert.equal(await field({ zone: 'a', ports: [{ port: 1, x: 1 }] }), 'spec.ports.0.x')
  assert.equal(await field({ zone: 'a', ports: [], address: '10.0.0.256' }), 'spec.address')
  assert.equal(await field({ zone: 'a', ports: [], colour: 1 }), 'spec.colour')
  assert.equal(await field(null), 'spec')
  const secret = await make({ zone: 'a', ports: [], password: 'much too long a password' })
  assert.equal(secret.details.field, 'spec.password')
  assert.doesNotMatch(secret.message, /much too long/)
})

test('a secret is sealed in the store, shown nowhere, and opened where it is needed', async () => {
  await using it = await testEngine([host])
  const { engine } = it
  const made = await engine.transact(async (draft) => {
    const one = draft.create(host, { ...input, spec: { ...input.spec, password: 'hunter2' } })
    assert.equal(draft.open(one, 'password'), 'hunter2')
    return one
  })
  assert.doesNotMatch(JSON.stringify(made), /hunter2/)
  assert.doesNotMatch(JSON.stringify(await engine.store.get(made.id)), /hunter2/)
  assert.equal(engine.open(made, 'password'), 'hunter2')
  assert.equal(engine.open(made, 'zone'), 'a')
  assert.equal(engine.open(made, 'address'), undefined)
  assert.deepEqual(engine.redact(made).spec, { zone: 'a', ports: [] })
  const edit = async (spec: typeof made.spec) =>
    await engine.transact(async (draft) => {
      const current = await draft.get(host, 'acme', made.id)
      assert.ok(current)
      return draft.edit(host, current, { spec })
    })
  const kept = await edit({ ...made.spec, ports: [{ port: 80 }] })
  assert.equal(kept.spec.password, made.spec.password, 'sealed as it was')
  const changed = await edit({ ...made.spec, password: 'hunter3' })
  assert.equal(engine.open(changed, 'password'), 'hunter3')
  await refused(edit({ ...made.spec, password: 'ab' }), 'invalid')
  const other = await engine.transact(async (draft) =>
    draft.create(host, { ...input, spec: { ...input.spec, password: 'hunter2' } }),
  )
  const stolen = { ...other, spec: { ...other.spec, password: made.spec.password } }
  assert.throws(() => engine.open(stolen as typeof other, 'password'), /another place/)
})

test('immutable fields do not change; the same wish again is no change', async () => {
  await using it = await testEngine([host])
  const { engine } = it
  const made = await engine.transact(async (draft) => draft.create(host, input))
  const edit = async (change: Parameters<Draft['edit']>[2]) =>
    await engine.transact(async (draft) => draft.edit(host, made, change as never))
  const error = await refused(edit({ spec: { ...made.spec, zone: 'b' } }), 'invalid')
  assert.equal(error.details.field, 'spec.zone')
  assert.equal(await edit({ spec: { ports: [], zone: 'a' }, name: 'h', labels: {} }), made)
  assert.equal((await engine.store.get(made.id))?.revision, 1)
  const renamed = await edit({ name: 'other', labels: { a: 'b' } })
  assert.deepEqual([renamed.name, renamed.labels, renamed.generation], ['other', { a: 'b' }, 2])
  const found = await engine.list(host, { tenant: 'acme', terms: ['name:other', 'label:a=b', 'zone:a'] })
  assert.deepEqual(found.items, [{ ...renamed, updatedAt: found.items[0]?.updatedAt }])
  assert.equal((await engine.list(host, { tenant: 'acme', terms: ['name:h'] })).total, 0)
})

test('claims of a kind follow its spec', async () => {
  await using it = await testEngine([host])
  const { engine } = it
  const at = (address?: string) => ({ ...input.spec, ...(address === undefined ? {} : { address }) })
  const made = await engine.transact(async (draft) => draft.create(host, { ...input, spec: at('10.0.0.1') }))
  const move = async (address?: string) =>
    await engine.transact(async (draft) => {
      const current = await draft.get(host, 'acme', made.id)
      return current && draft.edit(host, current, { spec: at(address) })
    })
  const held = async (): Promise<string[]> => (await engine.store.claims('addresses')).map((it) => it.value)
  await move('10.0.0.2')
  assert.deepEqual(await held(), ['10.0.0.2'])
  await move()
  assert.deepEqual(await held(), [])
})

test('two can exchange what they claim in one commit', async () => {
  await using it = await testEngine([host])
  const [one, other] = await it.engine.transact(async (draft) =>
    ['10.0.0.1', '10.0.0.2'].map((address) =>
      draft.create(host, { ...input, spec: { ...input.spec, address } }),
    ),
  )
  assert.ok(one && other)
  await it.engine.transact(async (draft) => {
    const free = draft.edit(host, one, { spec: input.spec })
    draft.edit(host, other, { spec: { ...input.spec, address: '10.0.0.1' } })
    draft.edit(host, free, { spec: { ...input.spec, address: '10.0.0.2' } })
  })
  assert.equal((await it.engine.store.claim('addresses', '10.0.0.1'))?.owner, other.id)
  assert.equal((await it.engine.store.claim('addresses', '10.0.0.2'))?.owner, one.id)
  assert.equal((await it.engine.store.get(one.id))?.generation, 3)
})

test('a draft sees what it did itself', async () => {
  await using it = await testEngine([host])
  const { engine } = it
  const old = await engine.transact(async (draft) =>
    draft.create(host, { ...input, name: 'old', spec: { ...input.spec, address: '10.0.0.1' } }),
  )
  await engine.transact(
    async (draft) => {
      const names = async (terms: string[], deleted = true): Promise<string[]> =>
        (await draft.list(host, { tenant: 'acme', terms, deleted })).map((one) => one.name)
      const made = draft.create(host, { ...input, name: 'new', labels: { a: 'b' } })
      assert.deepEqual(await draft.get(host, 'acme', made.id), made)
      assert.equal(await draft.get(host, 'globex', made.id), undefined)
      assert.deepEqual(await names([]), ['old', 'new'])
      assert.deepEqual(await names(['label:a=b']), ['new'])
      const renamed = draft.edit(host, old, { name: 'renamed' })
      assert.deepEqual(await names(['name:old']), [])
      assert.deepEqual(await names(['name:renamed']), ['renamed'])
      draft.claim({ pool: 'p', value: 'x', ends: 'deletion' }, made.id, { note: 'n' })
      draft.claim({ pool: 'addresses', value: '10.0.0.9', ends: 'removal' }, made.id)
      assert.equal((await draft.claimed('p', 'x'))?.note, 'n')
      assert.deepEqual(
        (await draft.claims('addresses')).map((it) => it.value),
        ['10.0.0.1', '10.0.0.9'],
      )
      draft.release('addresses', '10.0.0.1', old.id)
      assert.equal(await draft.claimed('addresses', '10.0.0.1'), undefined)
      draft.mark(renamed)
      assert.deepEqual(await names([], false), ['new'])
      assert.equal((await draft.get(host, 'acme', old.id))?.deletedAt, draft.now)
    },
    { dryRun: true },
  )
  assert.deepEqual(await engine.get(host, 'acme', old.id), old)
})

test('what a marked resource claimed until its deletion is free in the same draft', async () => {
  await using it = await testEngine([host])
  const made = await it.engine.transact(async (draft) => {
    const one = draft.create(host, input)
    draft.claim({ pool: 'names', value: 'web', ends: 'deletion' }, one.id)
    return one
  })
  await it.engine.transact(async (draft) => {
    draft.mark(made)
    assert.equal(await draft.claimed('names', 'web'), undefined)
    assert.deepEqual(await draft.claims('names'), [])
    const next = draft.create(host, input)
    draft.claim({ pool: 'names', value: 'web', ends: 'deletion' }, next.id)
  })
})

test('nothing of what a caller passed is shared with what is kept', async () => {
  await withDraft(async (draft) => {
    const spec = { zone: 'a', ports: [{ port: 1 }] }
    const made = draft.create(host, { ...input, spec })
    spec.ports.push({ port: 2 })
    assert.deepEqual(made.spec.ports, [{ port: 1 }])
  }, true)
})
