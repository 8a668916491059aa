import type { Caller } from '#cloud/access.ts'
import { PROVIDER, testCloud, type TestCloud } from '#cloud/cloud.testing.ts'
import type { Workload } from '#cloud/compute/workload.kind.ts'
import type { Tunnel } from './tunnel.kind.ts'

export type World = TestCloud & { readonly acme: Caller; readonly web: Workload }

/** A tenant with the domain acme.example and a workload of two replicas, at rest. */
export async function world(how: Parameters<typeof testCloud>[0] = {}): Promise<World> {
  const it = await testCloud(how)
  const { id, caller: acme } = await it.tenant('acme')
  await it.cloud.act(it.admin, 'test', (verbs) => verbs.addDomain(id, 'acme.example'))
  const web = await it.cloud.act(acme, 'test', async (verbs) => {
    const inside = await verbs.createVpc({ name: 'production', internet: true })
    const range = { cidr: '10.0.1.0/24', gateway: '10.0.1.1' }
    const subnet = await verbs.createSubnet({ vpc: inside.id, name: 'web', ...range })
    const spec = { image: 'nginx', replicas: 2, healing: true }
    return await verbs.createWorkload({ vpc: inside.id, subnet: subnet.id, name: 'web', spec })
  })
  await it.settle()
  return Object.assign(it, { acme, web })
}

export const tunnelTo = (
  it: World,
  more: Partial<Parameters<typeof createTunnel>[1]> = {},
): Promise<Tunnel> => createTunnel(it, { protocol: 'http', hostname: 'app.acme.example', port: 80, ...more })
const createTunnel = async (
  it: World,
  input: {
    protocol: Tunnel['spec']['protocol']
    hostname: string
    port: number
    name?: string
    certificate?: string
  },
): Promise<Tunnel> =>
  await it.cloud.act(it.acme, 'test', (verbs) => verbs.createTunnel({ workload: it.web.id, ...input }))

export const routesOf = (it: World) => it.front.fronts.get(it.web.spec.vpc)?.routes ?? []

export const CLOUDFLARE = {
  ...PROVIDER,
  cloudflareAccountId: 'account',
  cloudflareDomain: 'cloud.example',
  cloudflareToken: 'a token of Cloudflare',
}
