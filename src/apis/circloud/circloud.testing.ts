import assert from 'node:assert/strict'
import {
  type Answer,
  askedDialect,
  type AskedDialect,
  contractFor,
  type Question,
} from '#apis/dialect.testing.ts'
import type { testCloud } from '#cloud/cloud.testing.ts'
import { circloud } from './server.ts'

export type { Answer } from '#apis/dialect.testing.ts'
export type Ask = Question & { readonly auth?: string; readonly admin?: string }

export type TestTenant = {
  readonly id: string
  readonly token: string
  /** Asks with the tenant's header. */
  call(method: string, path: string, body?: unknown): Promise<Answer>
}

export type TestDialect = Omit<AskedDialect, 'ask'> & {
  ask(method: string, path: string, how?: Ask): Promise<Answer>
  /** Asks with the administrator's header. */
  admin(method: string, path: string, body?: unknown): Promise<Answer>
  tenant(name: string): Promise<TestTenant>
  /** A VPC with a subnet of a tenant. */
  network(
    of: TestTenant,
    vpc?: string,
    range?: string,
  ): Promise<{ readonly vpc: string; readonly subnet: string }>
  /** Everything the records hold of what tenants own, to see that nothing changed. */
  snapshot(): Promise<string>
}

const check = contractFor('circloud')

/** The dialect over a whole cloud with simulated drivers, asked without a socket. */
export async function testDialect(how: Parameters<typeof testCloud>[0] = {}): Promise<TestDialect> {
  const it = await askedDialect({ dialect: circloud, cloud: how, check })
  const { world } = it
  const ask: TestDialect['ask'] = async (method, path, { auth, admin, headers, ...sent } = {}) =>
    await it.ask(method, path, {
      ...sent,
      headers: { 'x-auth-token': auth, 'x-admin-token': admin, ...headers },
    })
  const admin: TestDialect['admin'] = async (method, path, body) =>
    await ask(method, path, { admin: world.credentials.token, body })
  return {
    ...it,
    ask,
    admin,
    async tenant(name) {
      const { status, body } = await admin('POST', '/tenants', { name, password: 'gui-pw' })
      assert.equal(status, 201, JSON.stringify(body))
      const { id, api_token: token } = body as { id: string; api_token: string }
      return {
        id,
        token,
        call: async (method, path, sent) => await ask(method, path, { auth: token, body: sent }),
      }
    },
    async network(of, name = 'production', range = '10.100.1.0/24') {
      const vpc = await of.call('POST', '/vpcs', {
        tenant_id: of.id,
        token: of.token,
        name,
        enable_internet: true,
      })
      assert.equal(vpc.status, 201, JSON.stringify(vpc.body))
      const subnet = await of.call('POST', '/subnets', {
        tenant_id: of.id,
        token: of.token,
        vpc_id: vpc.body.id,
        name: 'web',
        cidr: range,
        gateway_ip: range.replace(/0\/\d+$/, '1'),
      })
      assert.equal(subnet.status, 201, JSON.stringify(subnet.body))
      return { vpc: vpc.body.id as string, subnet: subnet.body.id as string }
    },
    async snapshot() {
      const kinds = [...world.cloud.kinds.values()].filter((it) => it.name !== 'credential')
      const lists = await Promise.all(kinds.map(async (kind) => await world.cloud.all(world.admin, kind)))
      return JSON.stringify(lists)
    },
  }
}
