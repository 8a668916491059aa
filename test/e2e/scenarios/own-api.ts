import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { objectId } from '#lib/object-id.ts'
import type { Pod } from '../client.testing.ts'
import type { TestCloud } from '../cloud.testing.ts'
import { containerOf, run } from '../host.testing.ts'
import { eventually } from '../wait.testing.ts'

/** Neither root nor the image's own user. */
const NOBODY = '54321:54321'
const FOLLOWS_WITHIN_MS = 10_000
/** Asks through the container's own socket, as its own replica unless a token is given; prints what it got. */
const ASK = `
const [path, token, host] = process.argv.slice(1)
const headers = { host, 'x-cycle-token': token || process.env.CYCLE_API_TOKEN }
require('node:http').get({ socketPath: '/var/run/cycle/api/api.sock', path, headers }, async (answer) => {
  let text = ''
  for await (const chunk of answer) text += chunk
  console.log(JSON.stringify({ status: answer.statusCode, body: JSON.parse(text) }))
}).on('error', (error) => console.log(JSON.stringify({ status: 0, body: { error: error.code } })))`

export type Neighbours = {
  readonly cloud: TestCloud
  /** Of one tenant. */
  readonly own: Pod
  readonly neighbour: Pod
  /** Of another. */
  readonly foreign: Pod
}
// oxlint-disable-next-line typescript/no-explicit-any -- bodies are looked into field by field
type Answer = { readonly status: number; readonly body: any }

/** What a workload finds in its container, and what of others it does not. */
export function ownApiScenario(given: () => Neighbours): void {
  const within = async (pod: Pod, ...command: string[]): Promise<string> =>
    (await run('docker', 'exec', '-u', NOBODY, (await containerOf(pod)).id, ...command)).trimEnd()
  const ask = async (
    pod: Pod,
    path: string,
    { token = '', host = 'localhost' }: { token?: string; host?: string } = {},
  ): Promise<Answer> => JSON.parse(await within(pod, '/bin/node', '-e', ASK, path, token, host)) as Answer
  const envOf = async (pod: Pod): Promise<Record<string, string>> =>
    JSON.parse(await within(pod, '/bin/node', '-p', 'JSON.stringify(process.env)')) as Record<string, string>
  const read = (pod: Pod, path: string): Promise<string> => within(pod, '/bin/cat', path)

  describe('the own socket of a workload', { concurrency: false }, () => {
    test('says to any user who it is, and nothing to who has the token of another', async () => {
      const { own, neighbour, foreign } = given()
      const tokens = new Map<Pod, string>()
      for (const pod of [own, neighbour, foreign]) {
        const env = await envOf(pod)
        tokens.set(pod, env['CYCLE_API_TOKEN'] ?? assert.fail('no token'))
        assert.equal(env['CYCLE_CONTAINER_ID'], objectId(pod.id))
        assert.equal(env['CYCLE_INSTANCE_ID'], objectId((await containerOf(pod)).replica))
        const { status, body } = await ask(pod, '/v1/container')
        assert.deepEqual([status, body.data?.id], [200, objectId(pod.id)], JSON.stringify(body))
        assert.equal(await within(pod, '/bin/ls', '/var/run/cycle/api'), 'api.sock')
        const instances = (await ask(pod, '/v1/container/instances')).body.data as { id: string }[]
        assert.deepEqual(
          instances.map((it) => it.id),
          [env['CYCLE_INSTANCE_ID']],
        )
      }
      for (const pod of [neighbour, foreign]) {
        const { status, body } = await ask(own, '/v1/container', { token: tokens.get(pod) ?? '' })
        assert.deepEqual([status, body.error?.code, body.data], [401, '401.auth-invalid', null])
      }
    })

    test('leads to no other API of Arcus and can be written by nobody', async () => {
      const { own } = given()
      for (const path of ['/native/vpc', '/circloud/v1/vpcs', '/healthz', '/metrics', '/../native/vpc'])
        assert.equal((await ask(own, path)).body.error?.code, '404.uri', path)
      assert.equal((await ask(own, '/vpc', { host: 'native.localhost' })).body.error?.code, '404.uri')
      for (const file of ['api/x', 'variables/x', 'x'])
        await assert.rejects(within(own, '/bin/sh', '-c', `echo > /var/run/cycle/${file}`), /Read-only/)
    })

    test('files follow a change while the container runs on', async () => {
      const { cloud, own } = given()
      const before = await containerOf(own)
      const metadata = JSON.parse(await read(own, '/var/run/cycle/metadata/environment.json')) as {
        id: string
      }
      assert.equal(metadata.id, objectId(own.vpc_id))
      const scope = { global: false, workloads: [own.id], names: [] }
      const spec = { vpc: own.vpc_id, scope, secret: 'first', access: { file: { decode: false } } }
      const as = { tenant: own.tenant_id }
      const { id } = await cloud.native<{ id: string }>('POST', '/scoped-variable', 201, {
        ...as,
        body: { name: 'password', spec },
      })
      const follows = async (text: string | undefined): Promise<void> => {
        await eventually(
          `the file says ${text}`,
          async () => (await read(own, '/var/run/cycle/variables/password').catch(() => undefined)) === text,
          FOLLOWS_WITHIN_MS,
        )
      }
      await follows('first')
      await cloud.native('PATCH', `/scoped-variable/${id}`, 200, {
        ...as,
        body: { spec: { secret: 'second' } },
      })
      await follows('second')
      await cloud.native('DELETE', `/scoped-variable/${id}`, 202, as)
      await follows(undefined)
      assert.deepEqual(await containerOf(own), before)
    })

    test('answers again when a process of Arcus was killed, through the mount that it has', async () => {
      const { cloud, own, foreign } = given()
      const before = await containerOf(own)
      for (const name of ['cloud', 'agent'] as const) {
        cloud.kill(name)
        await cloud.answers()
        for (const pod of [own, foreign])
          await eventually(
            `the socket of ${pod.name} answers after the ${name} was killed`,
            async () => (await ask(pod, '/v1/container')).body.data?.id === objectId(pod.id),
            FOLLOWS_WITHIN_MS,
          )
      }
      assert.deepEqual(await containerOf(own), before)
      // The agent, too, is back.
      await cloud.noLeaks()
    })

    test('its token is in nothing that a tenant or operator reads', async () => {
      const { cloud, own } = given()
      const { CYCLE_API_TOKEN: token = assert.fail() } = await envOf(own)
      const as = { tenant: own.tenant_id }
      const texts = [
        JSON.stringify(await cloud.native('GET', `/workload/${own.id}`, 200, as)),
        JSON.stringify(await cloud.native('GET', '/replica', 200, as)),
        JSON.stringify(await cloud.native('GET', '/leaks', 200)),
        cloud.log(),
        await run('ps', '-eo', 'args'),
      ]
      for (const text of texts) assert.ok(!text.includes(token))
    })
  })
}
