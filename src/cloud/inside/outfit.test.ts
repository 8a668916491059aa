import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CloudError } from '#lib/errors.ts'
import type { Caller } from '#cloud/access.ts'
import { testCloud, type TestCloud } from '#cloud/cloud.testing.ts'
import { replica, type Replica } from '#cloud/compute/replica.kind.ts'

const signal = AbortSignal.timeout(60_000)

type World = { readonly it: TestCloud; readonly caller: Caller; readonly vpc: string }

/** A VPC with a workload; nothing was reconciled yet. */
async function world(
  how: Parameters<typeof testCloud>[0] = {},
  spec: { persistence?: { enabled: true; path: string } } = {},
): Promise<World> {
  const it = await testCloud(how)
  const { caller } = await it.tenant('acme')
  const made = await it.cloud.act(caller, 'test', async (verbs) => {
    const of = await verbs.createVpc({ name: 'production', internet: true })
    const within = { vpc: of.id, name: 'web', cidr: '10.100.1.0/24', gateway: '10.100.1.1' }
    const subnet = await verbs.createSubnet(within)
    await verbs.createWorkload({
      vpc: of.id,
      subnet: subnet.id,
      name: 'web',
      spec: { image: 'nginx:latest', ...spec },
    })
    return of.id
  })
  return { it, caller, vpc: made }
}

const only = async ({ it, caller }: World): Promise<Replica> =>
  (await it.cloud.list(caller, replica)).items[0] ?? assert.fail('no replica')

test('a replica has its socket before its container is asked for, and none when it is gone', async () => {
  const order: string[] = []
  const made = await world({
    fault: (verb) => {
      if (verb === 'sockets.ensure' || verb === 'compute.apply') order.push(verb)
    },
  })
  const { it, caller } = made
  await using _ = it
  await it.settle()
  const { id } = await only(made)
  assert.deepEqual(order.slice(0, 2), ['sockets.ensure', 'compute.apply'])
  assert.deepEqual(await it.sockets.list(signal), [id])
  assert.ok(it.compute.wishes.get(id)?.inside)
  await it.cloud.act(caller, 'test', async (verbs) => await verbs.deleteVpc(made.vpc))
  await it.settle()
  assert.equal((await it.cloud.list(caller, replica)).items.length, 0)
  assert.deepEqual(await it.sockets.list(signal), [])
})

test('without its socket no container is asked for, and the replica says why', async () => {
  const made = await world({
    fault: (verb) => {
      if (verb === 'sockets.ensure') throw new CloudError('unavailable', 'no room for a socket')
    },
  })
  await using _ = made.it
  await made.it.settle()
  const it = await only(made)
  assert.equal(made.it.compute.wishes.get(it.id), undefined)
  assert.match(
    JSON.stringify(await made.it.cloud.explain(made.caller, replica, it.id)),
    /no room for a socket/,
  )
})

test('under a host agent of before there were sockets a container runs without', async () => {
  const made = await world({
    fault: (verb) => {
      if (verb === 'sockets.ensure') throw new CloudError('unsupported', 'no such verb')
    },
  })
  await using _ = made.it
  await made.it.settle()
  const it = await only(made)
  assert.equal(it.status.phase, 'running')
  assert.equal(made.it.compute.wishes.get(it.id)?.inside, undefined)
})

test('a workload that has a volume of its own there keeps it', async () => {
  const made = await world({}, { persistence: { enabled: true, path: '/run/cycle/data' } })
  await using _ = made.it
  await made.it.settle()
  const { id } = await only(made)
  const wish = made.it.compute.wishes.get(id)
  assert.deepEqual([wish?.mounts.length, wish?.inside], [1, undefined])
})

test('an audit finds a socket that is gone or is of nobody, and both are put right', async () => {
  const made = await world()
  const { it } = made
  await using _ = it
  await it.settle()
  const { id } = await only(made)
  it.sockets.vanish(id)
  const stray = '01900000-0000-7000-8000-000000000001'
  await it.sockets.ensure(stray, signal)
  const found = await it.cloud.mend(it.admin, signal)
  assert.deepEqual(
    found
      .map((leak) => [leak.what, leak.thing, leak.id])
      .toSorted((a, b) => String(a).localeCompare(String(b))),
    [
      ['missing', 'socket', id],
      ['orphan', 'socket', stray],
    ],
  )
  await it.settle()
  assert.deepEqual(await it.sockets.list(signal), [id])
  assert.deepEqual(await it.cloud.leaks(it.admin, signal), [])
})
