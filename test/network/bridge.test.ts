// What Docker's own bridges promise, with real packets: a Docker of the test's own, in a host that is a sandbox.
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { networkConformance, plannedHost } from '#cloud/network/network.conformance.ts'
import { bridgeNetwork, type BridgeNetwork } from '#drivers/docker/bridge.ts'
import { BRIDGE_PROMISES } from '#drivers/docker/bridge-promises.ts'
import { wayOutName } from '#drivers/docker/bridge-plan.ts'
import { dockerCompute } from '#drivers/docker/compute.ts'
import { systemClock } from '#lib/clock.ts'
import { jsonLog, silentLog } from '#lib/log.ts'
import { openDaemon, until } from '../docker/daemon.ts'
import { setScene, type Placed, type Stage } from './promises/scene.ts'
import { provePromises } from './promises/suite.ts'
import { enterSandbox, folder } from './sandbox.ts'
import { HOST, INTERNET, machine, surroundHost, uuid } from './world.ts'

await enterSandbox(import.meta.filename, { engine: true })

/** Docker's embedded resolver, in every container. */
const RESOLVER = '127.0.0.11'
const signal = AbortSignal.timeout(180_000)
const around = await surroundHost()
const daemon = await openDaemon('tbrg', 97, ['idle:latest'], { rules: true })
const directory = folder()
const open = (instance: string, directory: string): Promise<BridgeNetwork> =>
  bridgeNetwork({ socket: daemon.socket, directory, instance, log: silentLog })

const network = await open('tbrg', directory)
const compute = await dockerCompute({
  socket: daemon.socket,
  directory: folder(),
  instance: 'tbrg',
  networks: network.networks,
  links: network,
  seal: { seal: (it) => it, open: (it) => it },
  clock: systemClock,
  log: jsonLog('error'),
})
// Another fabric than the conformance suite's: Docker's networks do not overlap.
await network.applyHost({ ...HOST, fabric: '100.96.0.0/16' }, signal)

const inspect = async (id: string) => {
  const runtimeId = (await compute.observe(id, signal))?.runtimeId ?? ''
  return await daemon.client.getContainer(runtimeId).inspect()
}
const wayOuts = new Map<string, string>()

const stage: Stage = {
  network,
  resolver: RESOLVER,
  async attach({ id, subnet }, name, names) {
    const vpc = network.attachment(id)?.vpc ?? ''
    await compute.apply(
      {
        id,
        tenant: uuid(1),
        workload: id,
        vpc,
        subnet,
        attempt: 1,
        name,
        image: 'idle:latest',
        env: {},
        hostname: name,
        cpuMillicores: 500,
        memoryMib: 32,
        pidsMax: 64,
        capabilities: [],
        mounts: [],
        healing: false,
        stopGraceSeconds: 0,
        dns: { search: [names[1]?.replace(/^\w+\./, '') ?? ''], ndots: 1 },
        names,
      },
      signal,
    )
    await until(`${name} runs`, async () => (await compute.observe(id, signal))?.state === 'running')
    const { State, NetworkSettings } = await inspect(id)
    const out = NetworkSettings.Networks[wayOutName('tbrg', vpc)]?.IPAddress
    if (out) wayOuts.set(name, out)
    return machine(name, `/proc/${State.Pid}/ns/net`)
  },
  // Docker does, from the containers' own names.
  serveNames: () => Promise.resolve({ [Symbol.asyncDispose]: () => Promise.resolve() }),
  addressesOf: ({ at, name }: Placed) => [at.address, ...[wayOuts.get(name) ?? []].flat()],
}

networkConformance(
  'Docker bridges',
  async () => {
    const driver = await open('tcon', folder())
    await driver.applyHost(plannedHost, signal)
    return {
      driver,
      async [Symbol.asyncDispose]() {
        await driver.purge(signal)
        driver.close()
      },
    }
  },
  BRIDGE_PROMISES,
)

const scene = await setScene(stage, around, signal)
after(async () => {
  for (const it of [...Object.values(around), ...Object.values(scene.machines)]) it.stop()
  await compute.purge(signal)
  await network.purge(signal)
  await compute.close()
  network.close()
  await daemon[Symbol.asyncDispose]()
})
provePromises('Docker bridges', scene)

describe('Docker bridges: drift made by hand is seen and repaired', () => {
  const { a1 } = scene.machines
  const vpc = scene.plans[1].vpc
  const drift = async (): Promise<string> =>
    ((await network.observe(vpc, signal))?.drift ?? []).map((it) => it.detail).join('; ')
  const container = async (): Promise<string> => (await inspect(a1.at.id)).Id

  test('a way out that was taken away', async () => {
    const out = daemon.client.getNetwork(wayOutName('tbrg', vpc))
    await out.disconnect({ Container: await container(), Force: true })
    assert.ok((await a1.ask(INTERNET, 80)).error)
    assert.equal(await drift(), `way out of ${a1.at.id} missing`)
    await scene.change(1, {})
    assert.equal(await drift(), '')
    assert.match((await a1.ask(INTERNET, 80)).text ?? 'none', /^internet /)
  })

  test('a way out that was given', async () => {
    const { a3 } = scene.machines
    const out = daemon.client.getNetwork(wayOutName('tbrg', vpc))
    await out.connect({ Container: (await inspect(a3.at.id)).Id })
    assert.match((await a3.ask(INTERNET, 80)).text ?? 'none', /^internet /)
    assert.equal(await drift(), `way out of ${a3.at.id} not in the plan`)
    await scene.change(1, {})
    assert.equal(await drift(), '')
    assert.ok((await a3.ask(INTERNET, 80)).error)
  })

  test('a container that was removed comes back to its place, known by its names', async () => {
    await daemon.client.getContainer(await container()).remove({ force: true })
    await until('it runs again', async () => (await compute.observe(a1.at.id, signal))?.state === 'running')
    const again = machine('a1 again', `/proc/${(await inspect(a1.at.id)).State.Pid}/ns/net`)
    try {
      await again.listen(80)
      const { a3 } = scene.machines
      assert.deepEqual(await a3.ask(a1.at.address, 80), { text: `a1 again ${a3.at.address}` })
      assert.match((await a3.resolve(RESOLVER, 'web')).text ?? '', new RegExp(`\\b${a1.at.address}\\b`))
      assert.match((await again.ask(INTERNET, 80)).text ?? 'none', /^internet /)
    } finally {
      again.stop()
    }
  })

  test('a start finds the plans again', async () => {
    const next = await open('tbrg', directory)
    assert.deepEqual(await next.list(signal), await network.list(signal))
    assert.equal(next.attachment(a1.at.id)?.reachedAt, a1.at.address)
    next.close()
  })
})
