import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { plannedHost, plannedVpc } from '#cloud/network/network.conformance.ts'
import type { VpcPlan } from '#cloud/network/network.driver.ts'
import { silentLog } from '#lib/log.ts'
import { bridgeNetwork } from './bridge.ts'
import { wayOutName } from './bridge-plan.ts'
import { LABEL, networkName } from './container.ts'

const INSTANCE = 'test'
const signal = AbortSignal.timeout(20_000)
const whole = plannedVpc(1)
const attachments = whole.attachments.map((it) => ({ ...it, groups: [] }))
const plan: VpcPlan = { ...whole, attachments, vips: [], groups: [] }
const [machine] = plan.attachments
const [subnet] = plan.subnets
assert.ok(machine && subnet)
const attached = { vpc: plan.vpc, plan: machine, subnet, reachedAt: machine.address }
const closed = networkName(INSTANCE, subnet.id)
const wayOut = wayOutName(INSTANCE, plan.vpc)

/**
 * The driver with the plan above in force, the networks of its Docker by name, and the state of the machine's container and
 * what it is in.
 */
async function world(t: TestContext) {
  const directory = await mkdtemp(join(tmpdir(), 'arcus-bridge-'))
  const networks = new Map<string, object>()
  const container = { state: 'running', isIn: new Set([closed, wayOut]) }
  const docker = createServer((request, response) => {
    const [, , name = '', verb] = new URL(request.url ?? '', 'http://docker').pathname.split('/')
    const answer = (body: string): unknown => {
      if (name === 'json')
        return [
          {
            Id: 'c1',
            State: container.state,
            Labels: { [LABEL.id]: machine?.id },
            NetworkSettings: { Networks: Object.fromEntries([...container.isIn].map((it) => [it, {}])) },
          },
        ]
      if (name === '') return [...networks.values()]
      if (name === 'create') {
        const made = JSON.parse(body) as { readonly Name: string }
        networks.set(made.Name, made)
      }
      if (verb === 'disconnect') container.isIn.delete(name)
      if (request.method === 'DELETE') networks.delete(name)
      return {}
    }
    void text(request).then((body) => response.end(JSON.stringify(answer(body))))
  })
  const socket = join(directory, 'docker.sock')
  await once(docker.listen(socket), 'listening')
  const network = await bridgeNetwork({ socket, directory, instance: INSTANCE, log: silentLog })
  t.after(async () => {
    network.close()
    docker.closeAllConnections()
    docker.close()
    await rm(directory, { recursive: true })
  })
  await network.applyHost(plannedHost, signal)
  await network.apply(plan, signal)
  assert.deepEqual([...networks.keys()], [closed, wayOut])
  return { network, networks, container }
}

test('who joins a VPC that is being removed does not bring its networks back', async (t) => {
  const { network, networks } = await world(t)
  const removed = network.remove(plan.vpc, signal)
  const joins = [network.networks.ensure(attached), network.networks.join(attached, 'c1')]
  await Promise.all([removed, ...joins])
  assert.deepEqual([...networks.keys()], [])
})

test('who joins while a way out is taken away does not get it', async (t) => {
  const { network, networks } = await world(t)
  const applied = network.apply({ ...plan, generation: 2, internet: false }, signal)
  await Promise.all([applied, network.networks.join(attached, 'c1')])
  assert.deepEqual([...networks.keys()], [closed])
})

for (const state of ['running', 'created', 'exited', 'paused'])
  test(`a way out that is taken away is taken from a container that is ${state}`, async (t) => {
    const { network, networks, container } = await world(t)
    container.state = state
    const { egress: _, ...inside } = machine
    const others = attachments.slice(1)
    await network.apply({ ...plan, generation: 2, attachments: [inside, ...others] }, signal)
    assert.deepEqual([...container.isIn], [closed])
    assert.deepEqual([...networks.keys()], [closed, wayOut])
  })
