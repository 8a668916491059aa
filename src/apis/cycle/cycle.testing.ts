import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import { NOTIFICATION_LIMITS, type NotificationLimits } from './notifications.ts'
import { cycleWith } from './server.ts'
import { createHttp } from '#apis/http.ts'
import { openOwnSockets } from '#apis/own-sockets.testing.ts'
import { testCloud, type TestCloud } from '#cloud/cloud.testing.ts'
import type { Caller } from '#cloud/access.ts'
import type { Replica } from '#cloud/compute/replica.kind.ts'
import { replica } from '#cloud/compute/replica.kind.ts'
import type { AnyKind, Resource } from '#engine/resource.ts'
import { createIds } from '#lib/ids.ts'
import { jsonLog } from '#lib/log.ts'
import { type CheckAnswer, contractOf } from '../../../test/e2e/contract.testing.ts'

const CONTRACT = new URL('../../../test/contracts/cycle.json', import.meta.url)

// oxlint-disable-next-line typescript/no-explicit-any -- bodies are looked into field by field
export type Answer = {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: any
}
export type Asking = {
  /** Null: none is sent. Otherwise the instance's own. */
  readonly token?: string | null
  readonly body?: unknown
  /** Sent as it is, without a media type. */
  readonly raw?: string
  readonly headers?: Readonly<Record<string, string>>
}

/** One running replica with its own socket. */
export type Member = {
  readonly replica: Replica
  readonly socket: string
  readonly token: string
  /** Asks over the own socket, as the instance; every answer is checked against the contract. */
  ask(method: string, path: string, how?: Asking): Promise<Answer>
  /** The `data` of an answer that must be 200. */
  // oxlint-disable-next-line typescript/no-explicit-any -- as above
  data(method: string, path: string, how?: Asking): Promise<any>
}

export type CycleWorld = AsyncDisposable & {
  readonly it: TestCloud
  readonly url: string
  /** Every line of the log, and those that were logged as errors. */
  readonly said: readonly string[]
  readonly bugs: readonly string[]
  make(caller: Caller, kind: string, name: string, spec: object): Promise<Resource>
  /** The dialect served anew, as after a start of the process; members are others from then on. */
  restart(): Promise<void>
  /** The replicas of a workload, in the order of their slots. */
  members(caller: Caller, workload: string): Promise<Member[]>
}

export const checkAnswer: CheckAnswer = contractOf(CONTRACT, 'ErrorEnvelope')

/** One request over a unix socket, its body in chunks as the vendor's client sends it. */
export async function askSocket(
  socketPath: string,
  method: string,
  path: string,
  how: Omit<Asking, 'token'> & { readonly token?: string | undefined; readonly agent?: http.Agent } = {},
): Promise<Answer> {
  const { body, raw, headers = {}, token, agent } = how
  const sent = http.request({
    socketPath,
    method,
    path,
    ...(agent ? { agent } : {}),
    headers: {
      host: 'localhost',
      ...(token === undefined ? {} : { 'x-cycle-token': token }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
  })
  if (body !== undefined || raw !== undefined) sent.write(raw ?? JSON.stringify(body))
  sent.end()
  // An answer may come before all of a body that is too large was sent.
  sent.on('error', () => {})
  const [response] = (await once(sent, 'response')) as [http.IncomingMessage]
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  const text = Buffer.concat(chunks).toString('utf8')
  assert.notEqual(text, '', `${method} ${path} answered ${response.statusCode} with nothing`)
  assert.match(response.headers['content-type'] ?? '', /^application\/json/)
  return { status: response.statusCode ?? 0, headers: response.headers, body: JSON.parse(text) }
}

/** A cloud on simulated drivers and clock, with the dialect served on sockets of its replicas. */
export async function cycleWorld(limits: Partial<NotificationLimits> = {}): Promise<CycleWorld> {
  const it = await testCloud()
  const said: string[] = []
  const bugs: string[] = []
  const open = async () => {
    const server = await createHttp({
      cloud: it.cloud,
      dialects: [cycleWith({ ...NOTIFICATION_LIMITS, ...limits })],
      log: jsonLog('debug', (line) => {
        said.push(line)
        if (line.includes('"level":"error"')) bugs.push(line)
      }),
      clock: it.clock,
      ids: createIds(it.clock),
    })
    const { url } = await server.listen({ host: '127.0.0.1', port: 0 })
    return { server, url, sockets: await openOwnSockets(server) }
  }
  let served = await open()
  const close = async (): Promise<void> => {
    await served.sockets[Symbol.asyncDispose]()
    await served.server.close()
  }
  const memberOf = async (one: Replica): Promise<Member> => {
    const socket = await served.sockets.of(one.id)
    const own = it.cloud.inside.token(one)
    const ask: Member['ask'] = async (method, path, { token = own, ...how } = {}) => {
      const answer = await askSocket(socket, method, path, { ...how, token: token ?? undefined })
      checkAnswer(method, path, answer.status, answer.body)
      return answer
    }
    return {
      replica: one,
      socket,
      token: own,
      ask,
      async data(method, path, how) {
        const { status, body } = await ask(method, path, how)
        assert.equal(status, 200, `${method} ${path}: ${JSON.stringify(body)}`)
        return body.data
      },
    }
  }
  return {
    it,
    url: served.url,
    said,
    bugs,
    async make(caller, kind, name, spec) {
      const found = it.cloud.kinds.get(kind) as AnyKind
      return await it.cloud.act(caller, 'test', async (verbs) => await verbs.create(found, { name, spec }))
    },
    async members(caller, workload) {
      const all = await it.cloud.all(caller, replica, { terms: [`workload:${workload}`] })
      return await Promise.all(all.toSorted((a, b) => a.spec.index - b.spec.index).map(memberOf))
    },
    async restart() {
      await close()
      served = await open()
    },
    async [Symbol.asyncDispose]() {
      await close()
      await it[Symbol.asyncDispose]()
    },
  }
}
