import assert from 'node:assert/strict'
import { contractOf } from '../../../test/e2e/contract.testing.ts'
import type { Dialect } from '#apis/http.ts'
import { createHttp } from '#apis/http.ts'
import { testCloud, type TestCloud } from '#cloud/cloud.testing.ts'
import { createIds } from '#lib/ids.ts'
import { jsonLog } from '#lib/log.ts'
import { thecloud } from './server.ts'

// Answers are read field by field in the tests, after the contract's schema has judged them.
export type Answer = {
  readonly status: number
  // eslint-disable-next-line typescript/no-explicit-any
  readonly body: any
  readonly headers: Record<string, unknown>
}
export type Ask = {
  readonly key?: string
  readonly bearer?: string
  /** X-Tenant-ID. */
  readonly tenant?: string
  readonly body?: unknown
  readonly raw?: string
  readonly headers?: Record<string, string>
  /** Answers of another kind than the contract's JSON, or odd on purpose. */
  readonly unchecked?: boolean
}

/** A person with a key of their own and the tenant that was made with them. */
export type Person = {
  readonly id: string
  readonly email: string
  readonly password: string
  readonly tenant: string
  readonly key: string
  /** Asks with the person's key. */
  call(method: string, path: string, body?: unknown, how?: Ask): Promise<Answer>
  /** The same, and throws unless the status is 2xx; gives `data`. */
  // eslint-disable-next-line typescript/no-explicit-any
  data(method: string, path: string, body?: unknown, how?: Ask): Promise<any>
}

export type TestDialect = AsyncDisposable & {
  readonly world: TestCloud
  /** One request; its answer is checked against the contract. */
  ask(method: string, path: string, how?: Ask): Promise<Answer>
  /** Registers and logs in. */
  person(name: string): Promise<Person>
  readonly document: <D>() => Promise<D>
}

const CONTRACT = new URL('../../../test/contracts/thecloud.json', import.meta.url)
const check = contractOf(CONTRACT, 'AnyError')

export const PASSWORD = 'correct horse'

/** The dialect over a whole cloud with simulated drivers, asked without a socket. No rates unless told. */
export async function testDialect(
  how: Parameters<typeof testCloud>[0] & { readonly others?: readonly Dialect[] } = {},
): Promise<TestDialect> {
  const rates = { perSecond: 0, burst: 0, loginsPerMinute: 0 }
  const world = await testCloud({ ...how, settings: { rates, ...how.settings } })
  const bugs: string[] = []
  const http = await createHttp({
    cloud: world.cloud,
    dialects: [thecloud, ...(how.others ?? [])],
    log: jsonLog('error', (line) => bugs.push(line)),
    clock: world.clock,
    ids: createIds(world.clock),
  })
  const ask: TestDialect['ask'] = async (
    method,
    path,
    { key, bearer, tenant, body, raw, headers, unchecked } = {},
  ) => {
    const payload = raw ?? (body === undefined ? undefined : JSON.stringify(body))
    const answer = await http.app.inject({
      method: method as 'GET',
      url: `/thecloud${path}`,
      headers: {
        ...(payload === undefined ? {} : { 'content-type': 'application/json' }),
        ...(key === undefined ? {} : { 'x-api-key': key }),
        ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
        ...(tenant === undefined ? {} : { 'x-tenant-id': tenant }),
        ...headers,
      },
      ...(payload === undefined ? {} : { payload }),
    })
    const isJson = String(answer.headers['content-type']).startsWith('application/json')
    const seen: unknown =
      answer.payload === '' ? undefined : isJson ? (JSON.parse(answer.payload) as unknown) : answer.payload
    if (!unchecked) check(method, path, answer.statusCode, seen)
    return { status: answer.statusCode, body: seen, headers: answer.headers }
  }
  return {
    world,
    ask,
    async person(name) {
      const email = `${name}@example.com`
      const made = await ask('POST', '/auth/register', { body: { email, password: PASSWORD, name } })
      assert.equal(made.status, 201, JSON.stringify(made.body))
      const login = await ask('POST', '/auth/login', { body: { email, password: PASSWORD } })
      assert.equal(login.status, 200, JSON.stringify(login.body))
      const key = login.body.data.api_key as string
      const call: Person['call'] = async (method, path, body, more) =>
        await ask(method, path, { key, body, ...more })
      return {
        id: made.body.data.id as string,
        email,
        password: PASSWORD,
        tenant: made.body.data.tenant_id as string,
        key,
        call,
        data: async (method, path, body, more) => {
          const answer = await call(method, path, body, more)
          assert.ok(answer.status < 300, `${method} ${path} ${answer.status} ${JSON.stringify(answer.body)}`)
          return answer.body?.data
        },
      }
    },
    document: async <D>() => (await http.app.inject('/openapi/thecloud.json')).json<D>(),
    async [Symbol.asyncDispose]() {
      await http.close()
      await world[Symbol.asyncDispose]()
      assert.deepEqual(bugs, [])
    },
  }
}
