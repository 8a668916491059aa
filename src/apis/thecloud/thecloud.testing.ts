import assert from 'node:assert/strict'
import {
  type Answer,
  askedDialect,
  type AskedDialect,
  contractFor,
  type Question,
} from '#apis/dialect.testing.ts'
import type { Dialect } from '#apis/http.ts'
import type { testCloud } from '#cloud/cloud.testing.ts'
import { thecloud } from './server.ts'

export type Ask = Question & {
  readonly key?: string
  readonly bearer?: string
  /** X-Tenant-ID. */
  readonly tenant?: string
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

export type TestDialect = Omit<AskedDialect, 'ask'> & {
  ask(method: string, path: string, how?: Ask): Promise<Answer>
  /** Registers and logs in. */
  person(name: string): Promise<Person>
}

const check = contractFor('thecloud', 'AnyError')

export const PASSWORD = 'correct horse'

/** The dialect over a whole cloud with simulated drivers, asked without a socket. No rates unless told. */
export async function testDialect(
  how: Parameters<typeof testCloud>[0] & { readonly others?: readonly Dialect[] } = {},
): Promise<TestDialect> {
  const rates = { perSecond: 0, burst: 0, loginsPerMinute: 0 }
  const it = await askedDialect({
    dialect: thecloud,
    others: how.others ?? [],
    cloud: { ...how, settings: { rates, ...how.settings } },
    check,
  })
  const ask: TestDialect['ask'] = async (method, path, { key, bearer, tenant, headers, ...sent } = {}) =>
    await it.ask(method, path, {
      ...sent,
      headers: {
        'x-api-key': key,
        authorization: bearer === undefined ? undefined : `Bearer ${bearer}`,
        'x-tenant-id': tenant,
        ...headers,
      },
    })
  return {
    ...it,
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
  }
}
