import assert from 'node:assert/strict'
import { contractOf } from '../../../test/e2e/contract.testing.ts'
import { createHttp } from '#apis/http.ts'
import { testCloud, type TestCloud } from '#cloud/cloud.testing.ts'
import { createIds } from '#lib/ids.ts'
import { jsonLog } from '#lib/log.ts'
import { circloud } from './server.ts'

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }
// Answers are read field by field in the tests, after the contract's schema has judged them.
// eslint-disable-next-line typescript/no-explicit-any
export type Answer = {
  readonly status: number
  readonly body: any
  readonly headers: Record<string, unknown>
}
export type Ask = {
  readonly auth?: string
  readonly admin?: string
  readonly body?: unknown
  readonly raw?: string
  readonly headers?: Record<string, string>
}

export type TestTenant = {
  readonly id: string
  readonly token: string
  /** Asks with the tenant's header. */
  call(method: string, path: string, body?: unknown): Promise<Answer>
}

export type TestDialect = AsyncDisposable & {
  readonly world: TestCloud
  /** Lines that were logged as errors: a bug each. */
  readonly bugs: readonly string[]
  /** One request; its answer is checked against the contract unless `raw` or odd on purpose. */
  ask(method: string, path: string, how?: Ask & { readonly unchecked?: boolean }): Promise<Answer>
  /** Asks with the administrator's header. */
  admin(method: string, path: string, body?: unknown): Promise<Answer>
  tenant(name: string): Promise<TestTenant>
  /** A VPC with a subnet of a tenant. */
  network(
    of: TestTenant,
    vpc?: string,
    range?: string,
  ): Promise<{ readonly vpc: string; readonly subnet: string }>
  /** The OpenAPI document of the routes. */
  document<D>(): Promise<D>
  /** Everything the records hold of what tenants own, to see that nothing changed. */
  snapshot(): Promise<string>
}

const check = contractOf(new URL('../../../test/contracts/circloud.json', import.meta.url))

/** The dialect over a whole cloud with simulated drivers, asked without a socket. */
export async function testDialect(how: Parameters<typeof testCloud>[0] = {}): Promise<TestDialect> {
  const world = await testCloud(how)
  const bugs: string[] = []
  const http = await createHttp({
    cloud: world.cloud,
    dialects: [circloud],
    log: jsonLog('error', (line) => bugs.push(line)),
    clock: world.clock,
    ids: createIds(world.clock),
  })
  const ask: TestDialect['ask'] = async (
    method,
    path,
    { auth, admin, body, raw, headers, unchecked } = {},
  ) => {
    const payload = raw ?? (body === undefined ? undefined : JSON.stringify(body))
    const answer = await http.app.inject({
      method: method as 'GET',
      url: `/circloud${path}`,
      headers: {
        ...(payload === undefined ? {} : { 'content-type': 'application/json' }),
        ...(auth === undefined ? {} : { 'x-auth-token': auth }),
        ...(admin === undefined ? {} : { 'x-admin-token': admin }),
        ...headers,
      },
      ...(payload === undefined ? {} : { payload }),
    })
    const seen = answer.payload === '' ? undefined : (JSON.parse(answer.payload) as Json)
    if (!unchecked) check(method, path, answer.statusCode, seen)
    return { status: answer.statusCode, body: seen, headers: answer.headers }
  }
  const admin: TestDialect['admin'] = async (method, path, body) =>
    await ask(method, path, { admin: world.credentials.token, body })
  return {
    world,
    bugs,
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
    document: async <D>() => (await http.app.inject('/openapi/circloud.json')).json<D>(),
    async snapshot() {
      const kinds = [...world.cloud.kinds.values()].filter((it) => it.name !== 'credential')
      const lists = await Promise.all(kinds.map(async (kind) => await world.cloud.all(world.admin, kind)))
      return JSON.stringify(lists)
    },
    async [Symbol.asyncDispose]() {
      await http.close()
      await world[Symbol.asyncDispose]()
      assert.deepEqual(bugs, [])
    },
  }
}
