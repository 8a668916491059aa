// What the network of a Linux host promises, with real packets.
import { after } from 'node:test'
import { VPC_DNS_ADDRESS } from '#cloud/network/network.driver.ts'
import { localEdge } from '#drivers/edge/local.ts'
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
    for (const { vpc, callers, suffix, names, zone } of vpcs)
      await edge.apply(
        {
          vpc,
          generation: 1,
          callers,
          names: Object.fromEntries(Object.entries(names).map(([name, a]) => [name, { a, aaaa: [] }])),
          ...(zone ? { records: zone.records } : {}),
          suffixes: [...(zone ? [zone.domain] : []), suffix, 'internal'],
          nameservers: [],
          forward: false,
        },
        signal,
      )
    return { [Symbol.asyncDispose]: () => edge.close() }
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
