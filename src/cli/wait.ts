import { type Client, type Explanation, pathOf, type Resource } from './client.ts'
import { stateOf } from './columns.ts'
import { EXIT, Failure, isMissing } from './failure.ts'
import { getOne } from './resources.ts'
import { say } from './output.ts'
import { eventsOf } from './sse.ts'
import type { World } from './world.ts'

/** How often in a row a broken watch is opened again. */
const RECONNECTS_MAX = 10
const RECONNECT_MS = 1000

/** One resource to wait for: until reality is as its spec says, or until it is gone. */
export type Target = {
  readonly kind: string
  readonly id: string
  readonly name: string
  readonly until: 'settled' | 'gone'
}
type Change = {
  readonly kind: string
  readonly id: string
  readonly what: string
  readonly resource?: Resource
}

const label = (it: { readonly kind: string; readonly name: string }): string => `${it.kind}/${it.name}`

/** The resource as it is now, undefined when it is gone. */
async function lookAt(client: Client, { kind, id }: Target): Promise<Resource | undefined> {
  try {
    return await getOne(client, kind, id)
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}

/** Settled, but not in the way that was wished: nothing more happens until a person acts. */
export const isFailed = (it: Resource): boolean =>
  it.settled && ['error', 'failed'].includes(String(it.status['state'] ?? it.status['phase']))

/** Where it stands, in a few words: `pending (0/2 ready)`. */
export function progress(it: Resource): string {
  const { ready, desired, message } = it.status as { ready?: unknown; desired?: unknown; message?: unknown }
  const counts = typeof desired === 'number' ? ` (${String(ready)}/${desired} ready)` : ''
  const why = it.overdue ?? (typeof message === 'string' ? message : undefined)
  return `${stateOf(it)}${counts}${why ? `: ${why}` : ''}`
}

/** Why resources are not settled, as lines for the person. */
export function reasons(it: Explanation): string[] {
  return [
    ...(it.overdue === undefined ? [] : [it.overdue]),
    ...(it.queue?.reason === undefined
      ? []
      : [`${it.queue.reason}${it.queue.attempt ? ` (tried ${it.queue.attempt} times)` : ''}`]),
    ...it.waitingFor.map((one) => `waiting for ${label(one)}${one.reason ? `: ${one.reason}` : ''}`),
  ]
}

/**
 * Follows the change feed until every target is there, telling each change of state on standard error. `late` with the
 * reasons when the time is over or one failed for good; `refused` when something to settle was deleted meanwhile.
 */
export async function waitFor(
  client: Client,
  world: World,
  targets: readonly Target[],
  seconds: number,
): Promise<void> {
  const pending = new Map(targets.map((it) => [it.id, it]))
  const told = new Map<string, string>()
  const limit = AbortSignal.timeout(seconds * 1000)
  const signal = AbortSignal.any([limit, world.signal])

  const see = (target: Target, now: Resource | undefined): void => {
    const done = target.until === 'gone' ? !now : now?.settled === true && !isFailed(now)
    const text = !now ? 'gone' : done ? `settled, ${progress(now)}` : progress(now)
    if (told.get(target.id) !== text) say(world, `${label(target)}: ${text}`)
    told.set(target.id, text)
    if (now && target.until === 'settled' && isFailed(now))
      throw new Failure(
        EXIT.late,
        `${label(target)} failed: ${progress(now)}`,
        `look closer with: arcus describe ${target.kind} ${target.name}`,
      )
    if (done) pending.delete(target.id)
    else if (!now || (target.until === 'settled' && now.deletedAt !== undefined))
      throw new Failure(EXIT.refused, `${label(target)} was deleted while waiting for it`)
  }
  const lookAtAll = async (): Promise<void> => {
    for (const target of pending.values()) see(target, await lookAt(client, target))
  }
  /** Until all are done or the stream ends; gives the last cursor. */
  const follow = async (after: string | undefined): Promise<string | undefined> => {
    let cursor = after
    const body = await client.stream(
      '/watch',
      {},
      signal,
      after === undefined ? {} : { 'last-event-id': after },
    )
    for await (const event of eventsOf(body)) {
      if (event.event === 'error') return undefined
      if (event.event === 'ready') await lookAtAll()
      cursor = event.id ?? cursor
      if (event.event === 'change') {
        const change = JSON.parse(event.data) as Change
        const target = pending.get(change.id)
        if (target)
          see(
            target,
            change.what === 'removed' ? undefined : (change.resource ?? (await lookAt(client, target))),
          )
      }
      if (pending.size === 0) break
    }
    return cursor
  }

  let cursor: string | undefined
  try {
    for (let breaks = 0; pending.size > 0;) {
      const before = cursor
      try {
        cursor = await follow(cursor)
      } catch (error) {
        if (signal.aborted || !(error instanceof Failure ? error.exitCode === EXIT.unreachable : true))
          throw error
      }
      breaks = cursor === before ? breaks + 1 : 0
      if (pending.size === 0) return
      if (breaks > RECONNECTS_MAX)
        throw new Failure(EXIT.unreachable, `the watch of ${client.connection.url} broke ${breaks} times`)
      await world.clock.sleep(RECONNECT_MS, signal)
    }
  } catch (error) {
    if (!limit.aborted) throw error
    throw await late(client, [...pending.values()], seconds)
  }
}

async function late(client: Client, pending: readonly Target[], seconds: number): Promise<Failure> {
  const lines: string[] = []
  for (const it of pending) {
    const why = await client.get<Explanation>(`${pathOf(it.kind, it.id)}/explain`).then(reasons, () => [])
    lines.push(`${label(it)} is not ${it.until} after ${seconds} s${why.length ? `: ${why.join('; ')}` : ''}`)
  }
  const [first] = pending
  return new Failure(
    EXIT.late,
    lines.join('\n'),
    first && `look closer with: arcus explain ${first.kind} ${first.name}, or give --wait more time`,
  )
}
