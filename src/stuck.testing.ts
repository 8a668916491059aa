import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { CloudError } from '#lib/errors.ts'
import type { AnyKind, Resource } from '#engine/resource.ts'
import { circloud } from '#apis/circloud/server.ts'
import { native } from '#apis/native/server.ts'
import { type ServedCloud, servedCloud } from '#apis/native/native.testing.ts'
import { type Shell, shell } from '#cli/cli.testing.ts'
import type { Caller } from '#cloud/access.ts'
import type { Verbs } from '#cloud/cloud.ts'
import { KINDS } from '#cloud/kinds.ts'
import type { TestCloud } from '#cloud/cloud.testing.ts'
import type { Workload } from '#cloud/compute/workload.kind.ts'
import type { Subnet } from '#cloud/network/subnet.kind.ts'
import type { Vpc } from '#cloud/network/vpc.kind.ts'

const ROOT = join(import.meta.dirname, '..')
/** Time for what is not stuck to settle. */
const SETTLE_MS = 5000
/** Longer than the longest pause between two tries. */
const MENDED_MS = 70_000

/** The cloud in which something gets stuck, as one tenant sees it. */
export type Ground = {
  readonly it: TestCloud
  readonly caller: Caller
  readonly tenant: string
  /** From now on this verb of a driver (`network.apply`, or all of one: `network`; `issuer.issue`) fails, of one id or of all. */
  fail(verb: string, error?: Error, id?: string): void
  /** Nothing fails any more. */
  mend(): void
  act<R>(work: (verbs: Verbs) => Promise<R>): Promise<R>
  /** A VPC with a subnet, settled. */
  network(): Promise<{ vpc: Vpc; subnet: Subnet }>
  /** A pod in a VPC of its own or a given one. */
  pod(
    spec?: Partial<Workload['spec']> & { image?: string },
    at?: { vpc: Vpc; subnet: Subnet },
  ): Promise<Workload>
  settle(ms?: number): Promise<void>
}

/** One way for a resource of a kind to hang in a state. */
export type Case = {
  readonly kind: string
  readonly state: string
  readonly title: string
  readonly settings?: Parameters<typeof servedCloud>[0]
  /** Brings it about and gives the id of what hangs. */
  stick(ground: Ground): Promise<string>
  /** What goes on while it hangs; called every ten seconds. */
  during?(ground: Ground, id: string): Promise<void>
  /** What the reason names: the thing in the way. */
  readonly says: RegExp
  /** Takes the obstacle away. */
  free(ground: Ground, id: string): Promise<void> | void
  /** It has come to an end by itself that nobody wants: settled, and explained all the same. */
  readonly ended?: true
  /** How long it may take from the end of the obstacle, where that is longer than the longest pause of most. */
  readonly mendedMs?: number
  /** Of a workload: the word that Circloud has for it. */
  readonly word?: string
}

export const AGENT_AWAY = new CloudError(
  'unavailable',
  'the host agent does not answer at /run/arcus/agent.sock (connect ENOENT)',
)
export const EDGE_AWAY = new CloudError(
  'unavailable',
  'the edge does not answer at /run/arcus/edge/edge.sock (connect ENOENT)',
)

/** The verbs of drivers that any case so far made fail. */
export const failedVerbs = new Set<string>()

type Scene = AsyncDisposable & { ground: Ground; served: ServedCloud; user: Shell; token: string }

async function open(given: Case['settings']): Promise<Scene> {
  const failing: { verb: string; error: Error; id: string | undefined }[] = []
  const fault = (verb: string, id?: string): void => {
    // Samples are taken by the test itself.
    if (verb === 'compute.samples') return
    for (const it of failing)
      if ((verb === it.verb || verb.startsWith(`${it.verb}.`)) && (it.id === undefined || it.id === id)) {
        failedVerbs.add(verb)
        throw it.error
      }
  }
  const served = await servedCloud({
    ...given,
    dialects: [native, circloud],
    fault,
    issue: () => fault('issuer.issue'),
  })
  const { it } = served
  const { id, token, caller } = await it.tenant('acme')
  const act: Ground['act'] = async (work) => await it.cloud.act(caller, 'test', work)
  let made = 0
  const ground: Ground = {
    it,
    caller,
    tenant: id,
    fail: (verb, error = new Error(`${verb}: no space left on device`), of?: string) =>
      void failing.push({ verb, error, id: of }),
    mend: () => void failing.splice(0),
    act,
    async network() {
      const name = `net${made++}`
      const pair = await act(async (verbs) => {
        const vpc = await verbs.createVpc({ name, internet: true })
        const subnet = await verbs.createSubnet({
          vpc: vpc.id,
          name: 'front',
          cidr: '10.1.0.0/24',
          gateway: '10.1.0.1',
        })
        return { vpc, subnet }
      })
      await it.settle(SETTLE_MS)
      return pair
    },
    async pod(spec = {}, at) {
      const place = at ?? (await ground.network())
      return await act(
        async (verbs) =>
          await verbs.createWorkload({
            vpc: place.vpc.id,
            subnet: place.subnet.id,
            name: 'web',
            spec: { image: 'nginx:latest', ...spec },
          }),
      )
    },
    settle: async (ms = SETTLE_MS) => await it.settle(ms),
  }
  const user = await shell({ ARCUS_URL: served.url })
  return {
    ground,
    served,
    user,
    token,
    async [Symbol.asyncDispose]() {
      await user[Symbol.asyncDispose]()
      await served[Symbol.asyncDispose]()
    },
  }
}

const kindOf = (name: string): AnyKind => {
  const kind = KINDS.find((it) => it.name === name)
  assert.ok(kind, `no kind ${name}`)
  return kind
}

/** What a person is told must name the thing, say since when, what is next and what to do. */
async function assertExplained(scene: Scene, it: Case, resource: Resource): Promise<void> {
  const { served, user, ground } = scene
  const token = kindOf(it.kind).scope === 'platform' ? served.it.credentials.token : scene.token
  const { status, body } = await served.call('GET', `/${it.kind}/${resource.id}/explain`, { token })
  assert.equal(status, 200, JSON.stringify(body))
  assert.equal(body.state, it.state)
  assert.ok(body.advice, 'says what to do')
  assert.equal(body.page, `docs/states/${it.kind}-${it.state}.md`)
  assert.ok(existsSync(join(ROOT, body.page)), `${body.page} is there`)
  const cli = await user.run(['explain', it.kind, resource.id], { env: { ARCUS_TOKEN: token } })
  assert.equal(cli.code, 0, cli.err)
  for (const line of [it.says, `do:      ${body.advice}`, `see:     ${body.page}`])
    assert.ok(
      typeof line === 'string' ? cli.out.includes(line) : line.test(cli.out),
      `${line} in:\n${cli.out}`,
    )
  if (it.kind === 'workload') {
    const answer = await fetch(`${served.url}/circloud/pods`, { headers: { 'x-auth-token': scene.token } })
    const pods = (await answer.json()) as Record<string, string>[]
    const { status: word, status_message: message } = pods.find((pod) => pod['id'] === resource.id) ?? {}
    assert.equal(word, it.word ?? it.state)
    assert.match(message ?? '', it.says)
  }
  if (it.ended) {
    assert.match(body.message, it.says)
    return
  }
  assert.equal(body.settled, false)
  const reasons = [body.queue?.reason, ...body.waitingFor.map((one: { reason?: string }) => one.reason)]
  assert.match(reasons.join('\n'), it.says)
  assert.ok(Date.parse(body.since) <= ground.it.clock.now(), 'says since when')
  assert.ok(Date.parse(body.queue.at) >= Date.parse(body.since), 'says when it is looked at next')
  for (const line of [
    `state:   ${it.state} since ${body.since}`,
    `next:    looked at again at ${body.queue.at}`,
  ])
    assert.ok(cli.out.includes(line), `${line} in:\n${cli.out}`)
}

/** Makes it hang, sees that it says so in time to whoever asks, takes the obstacle away and sees it settle. */
export async function getStuck(it: Case): Promise<void> {
  await using scene = await open(it.settings)
  const { ground } = scene
  const kind = kindOf(it.kind)
  const limitMs = kind.settleSecondsMax * 1000
  const { engine, clock } = ground.it
  const now = async (id: string): Promise<Resource | undefined> => await engine.get(kind, '*', id)
  const id = await it.stick(ground)
  await ground.settle()
  if (!it.ended) {
    assert.equal((await now(id))?.overdue, undefined, 'not overdue before its time')
    const by = await engine.store.settleBy(id)
    assert.ok(by !== undefined && by <= clock.now() + limitMs, 'it is to settle in time')
    while (it.during && clock.now() <= by) {
      await it.during(ground, id)
      await ground.settle(10_000)
      await clock.advance(Math.max(0, 10_000 - (clock.now() % 10_000)))
    }
    await clock.advance(Math.max(0, by - clock.now()))
    await ground.settle(1500)
  }
  const hanging = await now(id)
  assert.ok(hanging, 'it is still there')
  if (it.ended) assert.equal(await engine.store.settleBy(id), undefined, 'it is settled and never overdue')
  if (!it.ended) {
    const wanted = hanging.deletedAt === undefined ? 'settled' : 'gone'
    const advice = kind.states[it.state]?.advice ?? ''
    const { overdue = 'not overdue' } = hanging
    assert.ok(overdue.startsWith(`not ${wanted} within ${kind.settleSecondsMax} s: `), overdue)
    assert.match(overdue, it.says)
    assert.ok(overdue.endsWith(`. ${advice}`), overdue)
  }
  await assertExplained(scene, it, hanging)
  const going = hanging.deletedAt !== undefined
  await it.free(ground, id)
  await ground.settle(it.mendedMs ?? MENDED_MS)
  const after = await now(id)
  if (going) return assert.equal(after, undefined, 'it went')
  assert.ok(after, 'it is there')
  assert.equal(after.overdue, undefined)
  assert.equal(after.observed, after.generation)
  assert.equal(await engine.store.settleBy(id), undefined, 'it is settled')
}
