// What the network of a Linux host promises, with real packets.
import { after } from 'node:test'
import { VPC_DNS_ADDRESS } from '#cloud/network/network.driver.ts'
import type { Zone } from '#cloud/edge/edge.driver.ts'
import { localEdge } from '#drivers/edge/local.ts'
import { FRONT_LIMITS } from '#drivers/front/limits.ts'
import { localFront } from '#drivers/front/local.ts'
import { createKeyring } from '#engine/secrets.ts'
import { linuxNetwork } from '#drivers/linux/linux.ts'
import { namesFor } from '#drivers/linux/names.ts'
import { systemClock } from '#lib/clock.ts'
import { jsonLog, silentLog } from '#lib/log.ts'
import { setScene, type Stage } from './promises/scene.ts'
import { provePromises } from './promises/suite.ts'
import { enterSandbox, folder, tryTo } from './sandbox.ts'
import { attach, HOST, plugIn, surroundHost } from './world.ts'

await enterSandbox(import.meta.filename)

const PREFIX = 'tpkt'
/** Few, so that a flood is soon one, and more than all that the other tests need. */
const FLOWS_MAX = 150
const signal = AbortSignal.timeout(240_000)
const network = linuxNetwork({
  prefix: PREFIX,
  directory: folder(),
  clock: systemClock,
  log: jsonLog('warn'),
  flowsMax: FLOWS_MAX,
})
const around = await surroundHost()
await network.applyHost(HOST, signal)

const stage: Stage = {
  network,
  attach: ({ id }, name) => attach(network, id, name),
  resolver: VPC_DNS_ADDRESS,
  async serveNames(vpcs) {
    const edge = await localEdge({
      directory: folder(),
      listen: { address: HOST.resolver, port: 53 },
      clock: systemClock,
      log: silentLog,
    })
    const apply = (it: Zone): Promise<void> =>
      edge.apply(it, signal).catch(async (error: unknown) => {
        await edge.close()
        throw error
      })
    for (const { vpc, callers, suffix, names, zone } of vpcs)
      await apply({
        vpc,
        generation: 1,
        callers,
        names: Object.fromEntries(Object.entries(names).map(([name, a]) => [name, { a, aaaa: [] }])),
        ...(zone ? { records: zone.records } : {}),
        suffixes: [...(zone ? [zone.domain] : []), suffix, 'internal'],
        nameservers: [],
        forward: false,
      })
    // It listens when it can.
    while (!edge.resolver()) await systemClock.sleep(5, signal)
    return { [Symbol.asyncDispose]: () => edge.close() }
  },
  async balance({ id, at: port }, targets, least) {
    const front = await localFront({
      directory: folder(),
      http: { address: '127.0.0.1', port: 0 },
      https: { address: '127.0.0.1', port: 0 },
      inside: HOST.resolver,
      seal: createKeyring(Buffer.alloc(32, 7)),
      clock: systemClock,
      log: silentLog,
      limits: { ...FRONT_LIMITS, checkEveryMs: 20, tryAgainMs: 10, stopMsMax: 100 },
    })
    let generation = 0
    const change = async (origins: typeof targets): Promise<void> => {
      const how = { pathPrefix: '/', stripPrefix: false, plain: false, ...(least ? { least } : {}) }
      const route = { id, hostname: 'balancer', carry: 'tcp', port, origins, ...how } as const
      await front.apply({ vpc: 'vpc', tenant: 'tenant', generation: ++generation, routes: [route] }, signal)
    }
    await change(targets)
    return { change, [Symbol.asyncDispose]: () => front.close() }
  },
  addressesOf: ({ at }) => [at.address, at.address6, at.fabric],
  routers: {
    namespace: namesFor(PREFIX).namespace,
    uplink: namesFor(PREFIX).uplink,
    async plugIn(id, name) {
      tryTo('ip', '-n', `m-${name}`, 'link', 'del', 'eth0')
      await plugIn(network, id, `m-${name}`)
    },
    unplug: (id) => network.removeLink(id),
  },
}

const scene = await setScene(stage, around, signal)
after(() => [...Object.values(around), ...Object.values(scene.machines)].forEach((it) => it.stop()))
provePromises('Linux', scene)
