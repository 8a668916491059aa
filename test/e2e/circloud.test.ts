import { after, before, describe, test } from 'node:test'
import { type Cloudflare, cloudflare } from '#drivers/cloudflare/cloudflare.testing.ts'
import { startCloud, type TestCloud } from './cloud.testing.ts'
import { assertNothingLeft, hostSnapshot, makeOutside, type Outside } from './host.testing.ts'
import { ACME_ZONE, acmeScenario } from './scenarios/acme.ts'
import { autoscalingScenario } from './scenarios/autoscaling.ts'
import { identityScenarios } from './scenarios/identity.ts'
import { instanceScenarios } from './scenarios/instances.ts'
import { networkScenarios, providerScenario } from './scenarios/networks.ts'
import { podScenarios } from './scenarios/pods.ts'
import { registryScenario } from './scenarios/registry.ts'
import { topologyScenarios } from './scenarios/topology.ts'
import { tunnelScenarios } from './scenarios/tunnels.ts'
import { twoTierScenario } from './scenarios/two-tiers.ts'
import { everyStep } from './wait.testing.ts'

// The acceptance scenarios of the Circloud contract, by their numbers, with real containers and packets: one cloud,
// a tenant for each.
const AT_ONCE = 4

describe('Circloud', () => {
  let started: TestCloud | undefined
  let outside: Outside | undefined
  let provider: Cloudflare | undefined
  let host: Set<string>
  const cloud = (): TestCloud => {
    if (!started) throw new Error('the cloud did not start')
    return started
  }
  const beyond = (): Outside => {
    if (!outside) throw new Error('the network outside was not made')
    return outside
  }
  before(async () => {
    host = await hostSnapshot()
    outside = await makeOutside('api')
    provider = await cloudflare(ACME_ZONE)
    started = await startCloud({ cloudflareApi: provider.base })
  })
  after(async () => {
    await everyStep(
      () => started?.[Symbol.asyncDispose](),
      () => provider?.[Symbol.asyncDispose](),
      () => outside?.[Symbol.asyncDispose](),
      () => assertNothingLeft(host),
    )
  })

  providerScenario(cloud)
  describe('scenarios', { concurrency: AT_ONCE }, () => {
    autoscalingScenario(cloud)
    networkScenarios(cloud, beyond)
    podScenarios(cloud)
    registryScenario(cloud)
    topologyScenarios(cloud)
    tunnelScenarios(cloud)
    identityScenarios(cloud)
    instanceScenarios(cloud, beyond)
    twoTierScenario(cloud, beyond)
  })
  acmeScenario(cloud, () => {
    if (!provider) throw new Error('there is no provider of DNS')
    return provider
  })
  test('after all tenants are deleted nothing of them is left', async () => {
    const { call, admin, emptied } = cloud()
    const as = { admin: admin.token }
    // A scenario that failed left its own behind.
    for (const { id } of await call<{ id: string }[]>('GET', '/tenants', 200, undefined, as)) {
      await call('DELETE', `/tenants/${id}`, 204, undefined, as)
    }
    await emptied()
  })
})
