// Private zones over a whole cloud with simulated drivers: what the edge is given to answer.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Verbs } from '#cloud/cloud.ts'
import { testCloud } from '#cloud/cloud.testing.ts'
import { replica } from '#cloud/compute/replica.kind.ts'
import { record } from './record.kind.ts'
import { vpc as vpcKind } from './vpc.kind.ts'
import { zone } from './zone.kind.ts'

async function zonedCloud() {
  const it = await testCloud()
  const { caller } = await it.tenant('acme')
  const act = <R>(work: (verbs: Verbs) => Promise<R>): Promise<R> => it.cloud.act(caller, 'test', work)
  const vpc = await act((verbs) => verbs.createVpc({ name: 'prod', internet: true }))
  await act((verbs) =>
    verbs.createSubnet({ vpc: vpc.id, name: 'web', cidr: '10.1.1.0/24', gateway: '10.1.1.1' }),
  )
  const machine = async (name: string) => {
    const { id } = await act((verbs) => verbs.launchInstance({ vpc: vpc.id, name, image: 'nginx' }))
    const [slot] = await it.cloud.all(caller, replica, { terms: [`workload:${id}`] })
    assert.ok(slot)
    return { id, slot: slot.id, address: slot.spec.address }
  }
  /** What the edge answers of the zone, as `name type content`. */
  const answered = async (): Promise<string[]> => {
    await it.settle()
    const { records = [] } = it.edge.zones.get(vpc.id) ?? {}
    return records.map((one) => `${one.name} ${one.type} ${JSON.stringify(one.data).replaceAll('"', '')}`)
  }
  return { ...it, caller, act, vpc, machine, answered, [Symbol.asyncDispose]: it[Symbol.asyncDispose] }
}

test('a zone goes to the edge with its records, and instances come and go in it', async () => {
  await using it = await zonedCloud()
  const { act, vpc, machine, answered } = it
  const web = await machine('web')
  const { id } = await act((verbs) => verbs.createZone({ vpc: vpc.id, name: 'Corp.Example.' }))
  assert.deepEqual(await answered(), [`web.corp.example A ${web.address}`])
  assert.deepEqual(it.edge.zones.get(vpc.id)?.suffixes, ['corp.example', 'prod.internal', 'internal'])
  const db = await act((verbs) =>
    verbs.createRecord({ zone: id, name: 'db', type: 'A', content: '10.9.0.1', ttlSeconds: 1 }),
  )
  assert.equal(db.spec.ttlSeconds, 60)
  const twin = await machine('Web')
  assert.deepEqual(await answered(), [
    'db.corp.example A 10.9.0.1',
    `web.corp.example A ${web.address}`,
    `web.corp.example A ${twin.address}`,
  ])
  assert.equal((await it.cloud.get(it.caller, record, db.id)).status.state, 'active')
  await act((verbs) => verbs.updateRecord(db.id, { content: '10.9.0.2', ttlSeconds: 90_000 }))
  await act((verbs) => verbs.deleteWorkload(web.id))
  assert.deepEqual(await answered(), ['db.corp.example A 10.9.0.2', `web.corp.example A ${twin.address}`])
  assert.equal((await it.cloud.get(it.caller, record, db.id)).spec.ttlSeconds, 86_400)
  await act((verbs) => verbs.deleteRecord(db.id))
  assert.deepEqual(await answered(), [`web.corp.example A ${twin.address}`])
  await act((verbs) => verbs.remove(zone, id))
  assert.deepEqual(await answered(), [])
  assert.deepEqual(it.edge.zones.get(vpc.id)?.suffixes, ['prod.internal', 'internal'])
  assert.deepEqual(await it.cloud.all(it.caller, zone), [])
})

test('service discovery comes before records, and these before instances', async () => {
  await using it = await zonedCloud()
  const { act, vpc, machine, answered, caller } = it
  const of = await act((verbs) => verbs.createZone({ vpc: vpc.id, name: 'prod.internal' }))
  const make = (name: string, type: 'A' | 'CNAME' | 'TXT', content: string) =>
    act((verbs) => verbs.createRecord({ zone: of.id, name, type, content }))
  await make('web', 'A', '192.0.2.1')
  await make('web', 'TXT', 'of web')
  assert.deepEqual(await answered(), ['web.prod.internal A 192.0.2.1', 'web.prod.internal TXT [of web]'])
  // From the moment that a workload has the name, no record leads it elsewhere.
  const web = await machine('web')
  assert.deepEqual(await answered(), ['web.prod.internal TXT [of web]'])
  assert.deepEqual(it.edge.zones.get(vpc.id)?.names['web.prod.internal']?.a, [web.address])
  const hidden = async () =>
    (await it.cloud.zones.entries(caller, of)).map((one) => [one.name, one.type, one.hidden, one.instance])
  assert.deepEqual(await hidden(), [
    ['web', 'A', true, undefined],
    ['web', 'TXT', false, undefined],
    ['web', 'A', true, web.id],
  ])
  await act((verbs) => verbs.remove(zone, of.id))
  await it.settle()
  const other = await act((verbs) => verbs.createZone({ vpc: vpc.id, name: 'corp.example' }))
  await act((verbs) =>
    verbs.createRecord({ zone: other.id, name: 'web', type: 'CNAME', content: 'db.corp.example' }),
  )
  assert.deepEqual(await answered(), ['web.corp.example CNAME db.corp.example'], 'made by hand')
  const { entry } = await it.cloud.zones.entry(caller, web.slot)
  assert.deepEqual([entry.hidden, entry.content, entry.instance], [true, web.address, web.id])
})

test('what cannot be in a zone is refused, with the reason', async () => {
  await using it = await zonedCloud()
  const { act, vpc, machine } = it
  const web = await machine('web')
  for (const name of ['localhost', 'a.localhost', '10.in-addr.arpa', 'a b', '*.corp.example'])
    await assert.rejects(
      act((verbs) => verbs.createZone({ vpc: vpc.id, name })),
      { code: 'invalid' },
      name,
    )
  const { id } = await act((verbs) => verbs.createZone({ vpc: vpc.id, name: 'corp.example' }))
  await assert.rejects(
    act((verbs) => verbs.createZone({ vpc: vpc.id, name: 'other.example' })),
    { code: 'already_exists', message: /VPC has a zone/ },
  )
  const second = await act((verbs) => verbs.createVpc({ name: 'second', internet: false }))
  await assert.rejects(
    act((verbs) => verbs.createZone({ vpc: second.id, name: 'corp.example' })),
    { code: 'already_exists', message: /this name/ },
  )
  const make = (name: string, type: 'A' | 'CNAME', content: string) =>
    act((verbs) => verbs.createRecord({ zone: id, name, type, content }))
  await make('db', 'A', '10.9.0.1')
  await make('db', 'A', '10.9.0.2')
  const alias = await make('alias', 'CNAME', 'db.corp.example')
  await assert.rejects(make('db', 'A', '10.9.0.1'), { code: 'conflict', message: /already/ })
  await assert.rejects(make('db.corp.example', 'CNAME', 'x.example'), { code: 'conflict', message: /alone/ })
  await assert.rejects(make('ALIAS', 'A', '10.9.0.1'), { code: 'conflict', message: /alone/ })
  await assert.rejects(make('@', 'CNAME', 'x.example'), { code: 'invalid' })
  await assert.rejects(
    make(
      'a'.repeat(63) + '.' + 'b'.repeat(63) + '.' + `${'c'.repeat(63)}.${'d'.repeat(50)}`,
      'A',
      '10.9.0.1',
    ),
    {
      code: 'invalid',
    },
  )
  for (const verb of ['updateRecord', 'deleteRecord'] as const)
    await assert.rejects(
      act((verbs) => verbs[verb](web.slot, { content: '10.9.0.1' })),
      { code: 'conflict', message: /kept for an instance/ },
    )
  await act((verbs) => verbs.updateRecord(alias.id, { content: 'web.corp.example' }))
})

test('a zone goes with its VPC', async () => {
  await using it = await zonedCloud()
  const { act, vpc, caller } = it
  const { id } = await act((verbs) => verbs.createZone({ vpc: vpc.id, name: 'corp.example' }))
  await act((verbs) => verbs.createRecord({ zone: id, name: 'db', type: 'A', content: '10.9.0.1' }))
  await it.settle()
  await act((verbs) => verbs.deleteVpc(vpc.id))
  await it.settle()
  for (const kind of [vpcKind, zone, record])
    assert.deepEqual(await it.cloud.all(caller, kind as typeof zone), [], kind.name)
  assert.equal(it.edge.zones.has(vpc.id), false)
})
