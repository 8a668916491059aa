import assert from 'node:assert/strict'
import type { Hands } from './dialect.ts'

export const PROVIDER = {
  externalCidr: '203.0.113.0/24',
  externalGateway: '203.0.113.1',
  peeringCidr: '172.30.0.0/24',
  nameservers: [],
  ndots: null,
  cloudflareAccountId: null,
  cloudflareDomain: null,
}

/** There is one provider for all: sees to it that it is there. */
export async function provide({ native }: Hands): Promise<void> {
  const { status } = await native('POST', '/provider', { body: { name: 'provider', spec: PROVIDER } })
  assert.ok([201, 409].includes(status), `the provider answered ${status}`)
}
