import { isDeepStrictEqual } from 'node:util'
import type { Random } from './random.testing.ts'

/** Workloads of one worker that live at the same time. */
const ALIVE_MAX = 4
const REPLICAS_MAX = 3

export type Ask = (method: string, path: string, body?: unknown) => Promise<{ status: number; body: unknown }>

/** The part of a workload's wish that a worker changes. */
export type Wish = {
  readonly image: string
  readonly replicas: number
  readonly env: Readonly<Record<string, string>>
}
const wishOf = ({ image, replicas, env }: Wish): Wish => ({ image, replicas, env })
type Seen = { id: string; name: string; spec: Wish; deletedAt?: string }

type Held = {
  /** The last acknowledged wish, then those that were asked for since without an answer. */
  wishes: Wish[]
  /** Whether deletion was asked for without an answer. */
  maybeDeleted: boolean
}

/** What the API answered to one worker, which has a tenant to itself, and what it never got to answer. */
export type Ledger = {
  readonly ask: Ask
  readonly vpc: string
  readonly subnet: string
  /** The images that workloads run. */
  readonly images: readonly string[]
  readonly made: Map<string, Held>
  readonly vpcs: Map<string, { maybeDeleted: boolean }>
  readonly deleted: Set<string>
  /** Names asked for without an answer. */
  readonly maybeMade: Set<string>
  /** Answers that no crash explains, and acknowledged writes that are lost. */
  readonly wrong: string[]
  acknowledged: { creates: number; changes: number; deletes: number }
  lost: number
  unanswered: number
  count: number
}

/** A new ledger over a VPC and a subnet of its own, made while nothing is killed. */
export async function openLedger(ask: Ask, images: readonly string[]): Promise<Ledger> {
  const make = async (path: string, body: unknown): Promise<string> => {
    const { status, body: answer } = await ask('POST', path, body)
    if (status !== 201) throw new Error(`POST ${path} answered ${status} ${JSON.stringify(answer)}`)
    return (answer as { id: string }).id
  }
  const vpc = await make('/vpc', { name: 'production', spec: { internet: true } })
  const subnet = await make('/subnet', { name: 'web', spec: { vpc, cidr: '10.100.1.0/24' } })
  return {
    ask,
    vpc,
    subnet,
    images,
    made: new Map(),
    vpcs: new Map([[vpc, { maybeDeleted: false }]]),
    deleted: new Set(),
    maybeMade: new Set(),
    wrong: [],
    acknowledged: { creates: 0, changes: 0, deletes: 0 },
    lost: 0,
    unanswered: 0,
    count: 0,
  }
}

/** Undefined when no answer came, since the process died meanwhile. Any answer but those expected is kept as wrong. */
async function answered(
  it: Ledger,
  expected: readonly number[],
  ...call: Parameters<Ask>
): Promise<{ status: number; body: unknown } | undefined> {
  let answer
  try {
    answer = await it.ask(...call)
  } catch (error) {
    const { name, message } = error as Error
    // A body that breaks off is an answer that did not come.
    if (!['TypeError', 'TimeoutError', 'SyntaxError', 'AbortError'].includes(name)) it.wrong.push(message)
    it.unanswered++
    return undefined
  }
  if (expected.includes(answer.status)) return answer
  it.wrong.push(`${call.join(' ')} answered ${answer.status} ${JSON.stringify(answer.body)}`)
  return undefined
}

async function create(it: Ledger, random: Random): Promise<void> {
  const name = `w-${it.count}`
  const wish = {
    image: it.images[random.below(it.images.length)] ?? '',
    replicas: 1 + random.below(REPLICAS_MAX),
    env: { ROUND: '0' },
  }
  it.maybeMade.add(name)
  const spec = { ...wish, vpc: it.vpc, subnet: it.subnet, healing: true, cpuMillicores: 500, memoryMib: 128 }
  const answer = await answered(it, [201], 'POST', '/workload', { name, spec })
  if (!answer) return
  it.maybeMade.delete(name)
  it.made.set((answer.body as Seen).id, { wishes: [wish], maybeDeleted: false })
  it.acknowledged.creates++
}

async function change(it: Ledger, random: Random, id: string, held: Held): Promise<void> {
  const [now] = held.wishes
  if (!now) return
  const patches: Partial<Wish>[] = [
    { replicas: 1 + random.below(REPLICAS_MAX) },
    { image: it.images[random.below(it.images.length)] ?? '' },
    { env: { ROUND: String(it.count) } },
  ]
  const patch = patches[random.below(patches.length)] ?? {}
  const next = { ...now, ...patch }
  held.wishes.push(next)
  const answer = await answered(it, [200], 'PATCH', `/workload/${id}`, { spec: patch })
  if (!answer) return
  held.wishes = [next]
  it.acknowledged.changes++
}

async function remove(it: Ledger, kind: 'workload' | 'vpc', id: string): Promise<void> {
  const held = kind === 'workload' ? it.made.get(id) : it.vpcs.get(id)
  if (!held) return
  held.maybeDeleted = true
  const answer = await answered(it, [202, 404], 'DELETE', `/${kind}/${id}`)
  if (!answer) return
  it.made.delete(id)
  it.vpcs.delete(id)
  it.deleted.add(id)
  it.acknowledged.deletes++
}

async function passingVpc(it: Ledger): Promise<void> {
  const name = `v-${it.count}`
  it.maybeMade.add(name)
  const answer = await answered(it, [201], 'POST', '/vpc', { name, spec: { internet: true } })
  if (!answer) return
  it.maybeMade.delete(name)
  const { id } = answer.body as Seen
  it.vpcs.set(id, { maybeDeleted: false })
  it.acknowledged.creates++
  await answered(it, [201], 'POST', '/subnet', { name: 'web', spec: { vpc: id, cidr: '10.100.2.0/24' } })
  await remove(it, 'vpc', id)
}

/** Creates, changes and deletes until the signal aborts, then leaves what is there. */
export async function workUntil(
  it: Ledger,
  random: Random,
  signal: AbortSignal,
  pause: () => Promise<void>,
): Promise<void> {
  while (!signal.aborted) {
    it.count++
    const unanswered = it.unanswered
    const all = [...it.made].filter(([, held]) => !held.maybeDeleted)
    const [id, held] = all[random.below(all.length)] ?? []
    const dice = random.below(100)
    if (id === undefined || held === undefined || (all.length < ALIVE_MAX && dice < 35))
      await create(it, random)
    else if (dice < 75) await change(it, random, id, held)
    else if (dice < 90) await remove(it, 'workload', id)
    else await passingVpc(it)
    // Nobody answers: no use in asking on without a pause.
    if (it.unanswered > unanswered) await new Promise((resolve) => setTimeout(resolve, 20))
    await pause()
  }
}

async function all(it: Ledger, kind: string): Promise<Seen[]> {
  const { status, body } = await it.ask('GET', `/${kind}?limit=1000`)
  if (status !== 200) throw new Error(`GET /${kind} answered ${status} ${JSON.stringify(body)}`)
  return (body as { items: Seen[] }).items
}

/** Holds the records against what was acknowledged, and takes over what turned out of the rest. */
export async function reckon(it: Ledger): Promise<void> {
  const lose = (what: string): void => {
    it.lost++
    it.wrong.push(what)
  }
  const lists = { workload: await all(it, 'workload'), vpc: await all(it, 'vpc') }
  for (const kind of ['workload', 'vpc'] as const) {
    const listed = new Map(lists[kind].map((one) => [one.id, one]))
    const held: Map<string, { maybeDeleted: boolean }> = kind === 'workload' ? it.made : it.vpcs
    for (const [id, one] of held) {
      const isLive = listed.has(id) && listed.get(id)?.deletedAt === undefined
      if (isLive) one.maybeDeleted = false
      else if (!one.maybeDeleted) lose(`${kind} ${id} was acknowledged and is lost`)
      if (!isLive) held.delete(id)
    }
    for (const one of listed.values()) {
      if (one.deletedAt !== undefined) continue
      if (it.deleted.has(one.id)) lose(`the deletion of ${kind} ${one.name} was acknowledged and is lost`)
      else if (!held.has(one.id)) adopt(it, kind, one)
    }
  }
  for (const one of lists.workload) {
    const held = it.made.get(one.id)
    if (!held) continue
    const now = wishOf(one.spec)
    if (!held.wishes.some((wish) => isDeepStrictEqual(wish, now)))
      lose(`${one.name} is wished as ${JSON.stringify(now)}, asked for was ${JSON.stringify(held.wishes)}`)
    held.wishes = [now]
  }
}

function adopt(it: Ledger, kind: 'workload' | 'vpc', one: Seen): void {
  if (!it.maybeMade.delete(one.name)) it.wrong.push(`${kind} ${one.name} is there and nobody asked for it`)
  if (kind === 'vpc') it.vpcs.set(one.id, { maybeDeleted: false })
  else it.made.set(one.id, { wishes: [wishOf(one.spec)], maybeDeleted: false })
}
