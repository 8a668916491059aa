import { PROVIDER } from '#cloud/cloud.testing.ts'
import assert from 'node:assert/strict'
import type { Json } from './ask.ts'
import type { Hands } from './dialect.ts'
import type { Seeded } from './world.ts'

export const WITH_DOMAIN = {
  ...PROVIDER,
  // Each tenant that is seeded takes some of its addresses.
  externalCidr: '198.18.0.0/15',
  externalGateway: '198.18.0.1',
  cloudflareDomain: 'cloud.example',
}

/** There is one provider for all: sees to it that it is there. */
export async function provide({ native }: Hands): Promise<void> {
  const { status } = await native('POST', '/provider', { body: { name: 'provider', spec: WITH_DOMAIN } })
  assert.ok([201, 409].includes(status), `the provider answered ${status}`)
  if (status === 201) return
  const { cloudflareDomain } = WITH_DOMAIN
  const changed = await native('PATCH', '/provider/provider', { body: { spec: { cloudflareDomain } } })
  assert.equal(changed.status, 200)
}

/** Routes keep what they lead to: the one of a tenant goes first. */
export async function withoutRoute({ native, settle }: Hands, { tenant, ids }: Seeded): Promise<void> {
  const { status } = await native('DELETE', `/route/${ids['route']}`, { tenant: tenant.id })
  assert.ok([200, 202].includes(status), `the route answered ${status}`)
  await settle()
}

/** The same, and what keeps a VPC or subnet from going beside them: its peering, NAT gateway and zone. */
export async function withoutWays(hands: Hands, of: Seeded): Promise<void> {
  await withoutRoute(hands, of)
  for (const kind of ['peering', 'nat-gateway', 'zone']) {
    const { status } = await hands.native('DELETE', `/${kind}/${of.ids[kind]}`, { tenant: of.tenant.id })
    assert.ok([200, 202].includes(status), `the ${kind} answered ${status}`)
  }
  await hands.settle()
}

/** What an administrator has one of by this name: sees to it that it is there, or that it is not. */
export const singleton =
  (kind: string, name: string, spec: Json) =>
  (wanted: boolean) =>
  async (hands: Hands): Promise<void> => {
    await provide(hands)
    const { status } = wanted
      ? await hands.native('POST', `/${kind}`, { body: { name, spec } })
      : await hands.native('DELETE', `/${kind}/${name}`)
    assert.ok((wanted ? [201, 409] : [200, 202, 404]).includes(status), `${kind} ${name} answered ${status}`)
    await hands.settle()
  }
