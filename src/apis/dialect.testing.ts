import assert from 'node:assert/strict'
import { contractOf } from '../../test/e2e/contract.testing.ts'
import { testCloud, type TestCloud } from '#cloud/cloud.testing.ts'
import { createIds } from '#lib/ids.ts'
import { jsonLog } from '#lib/log.ts'
import { createHttp, type Dialect } from './http.ts'

// Answers are read field by field in the tests, after the contract's schema has judged them.
export type Answer = {
  readonly status: number
  // eslint-disable-next-line typescript/no-explicit-any
  readonly body: any
  readonly headers: Record<string, unknown>
}

export type Question = {
  readonly body?: unknown
  /** The body as it is sent, in the place of `body`. */
  readonly raw?: string
  /** Those that are undefined are not sent. */
  readonly headers?: Readonly<Record<string, string | undefined>>
  /** Odd on purpose, or not the contract's JSON: its answer is not checked. */
  readonly unchecked?: boolean | undefined
}

export type AskedDialect = AsyncDisposable & {
  readonly world: TestCloud
  /** Lines that were logged as errors: a bug each; there must be none at the end. */
  readonly bugs: readonly string[]
  /** One request, its path without the dialect's prefix; the answer is checked against the contract. */
  ask(method: string, path: string, how?: Question): Promise<Answer>
  /** The OpenAPI document of the routes. */
  document<D>(): Promise<D>
}

type Asked = {
  readonly dialect: Dialect
  /** Others that are served beside it. */
  readonly others?: readonly Dialect[]
  readonly cloud: Parameters<typeof testCloud>[0]
  readonly check: ReturnType<typeof contractOf>
}

/** Checks answers against the contract of a dialect; `error` is the schema of its refusals. */
export const contractFor = (name: string, error?: string): ReturnType<typeof contractOf> =>
  contractOf(new URL(`../../test/contracts/${name}.json`, import.meta.url), error)

/** A dialect over a whole cloud with simulated drivers, asked without a socket. */
export async function askedDialect({ dialect, others = [], cloud, check }: Asked): Promise<AskedDialect> {
  const { name } = dialect
  const world = await testCloud(cloud)
  const bugs: string[] = []
  const http = await createHttp({
    cloud: world.cloud,
    dialects: [dialect, ...others],
    log: jsonLog('error', (line) => bugs.push(line)),
    clock: world.clock,
    ids: createIds(world.clock),
  })
  return {
    world,
    bugs,
    async ask(method, path, { body, raw, headers = {}, unchecked } = {}) {
      const payload = raw ?? (body === undefined ? undefined : JSON.stringify(body))
      const sent = Object.entries(headers).filter(([, value]) => value !== undefined)
      const answer = await http.app.inject({
        method: method as 'GET',
        url: `/${name}${path}`,
        headers: {
          ...(payload === undefined ? {} : { 'content-type': 'application/json' }),
          ...Object.fromEntries(sent),
        },
        ...(payload === undefined ? {} : { payload }),
      })
      const isJson = /^application\/(problem\+)?json/.test(String(answer.headers['content-type']))
      const seen: unknown =
        answer.payload === '' ? undefined : isJson ? (JSON.parse(answer.payload) as unknown) : answer.payload
      if (!unchecked) check(method, path, answer.statusCode, seen)
      return { status: answer.statusCode, body: seen, headers: answer.headers }
    },
    document: async <D>() => (await http.app.inject(`/openapi/${name}.json`)).json<D>(),
    async [Symbol.asyncDispose]() {
      await http.close()
      await world[Symbol.asyncDispose]()
      assert.deepEqual(bugs, [])
    },
  }
}
