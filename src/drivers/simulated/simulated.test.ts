import { simulatedClock } from '#lib/clock.ts'
import { createIds } from '#lib/ids.ts'
import { computeConformance } from '#cloud/compute/compute.conformance.ts'
import type { ContainerWish } from '#cloud/compute/compute.driver.ts'
import { networkConformance, plannedHost } from '#cloud/network/network.conformance.ts'
import { MISSING_IMAGE, simulatedCompute } from './compute.ts'
import { simulatedNetwork } from './network.ts'

const LOOKS_MAX = 100
const LOOK_EVERY_MS = 10

networkConformance('simulated', async () => {
  const driver = simulatedNetwork()
  await driver.applyHost(plannedHost, AbortSignal.timeout(1000))
  return { driver, [Symbol.asyncDispose]: async () => await driver.purge(AbortSignal.timeout(1000)) }
})

computeConformance('simulated', async () => {
  const clock = simulatedClock()
  const ids = createIds(clock)
  const driver = simulatedCompute(clock)
  const wish = (change: Partial<ContainerWish> = {}): ContainerWish => ({
    id: ids.next(),
    tenant: ids.next(),
    workload: ids.next(),
    vpc: ids.next(),
    subnet: ids.next(),
    attempt: 1,
    name: 'web-0',
    image: 'idle',
    env: {},
    hostname: 'web-0',
    cpuMillicores: 100,
    memoryMib: 64,
    pidsMax: 64,
    capabilities: [],
    mounts: [],
    healing: false,
    stopGraceSeconds: 1,
    dns: { search: [], ndots: 1 },
    ...change,
  })
  return await Promise.resolve({
    driver,
    wish,
    missingImage: `${MISSING_IMAGE}:latest`,
    exit: async (id: string, code: number) => await Promise.resolve(driver.exit(id, code)),
    async until(what: string, look: () => Promise<boolean>) {
      for (let looks = 0; looks < LOOKS_MAX; looks++) {
        if (await look()) return
        await clock.advance(LOOK_EVERY_MS)
      }
      throw new Error(`${what}: not within ${LOOKS_MAX * LOOK_EVERY_MS} ms`)
    },
    [Symbol.asyncDispose]: async () => await driver.purge(AbortSignal.timeout(1000)),
  })
})
