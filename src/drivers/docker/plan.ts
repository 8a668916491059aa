import type { SeenContainer } from '#cloud/compute/compute.driver.ts'
import { LABEL, limitsOf } from './container.ts'
import type { ContainerInfo } from './docker.ts'
import type { Ended, Held, KeptWish } from './wishes.ts'

/** The pause before a container that ended is started again: doubles with each end in a row. */
export const RESTART_BACKOFF = { firstMs: 250, maxMs: 60_000, stableMs: 60_000 } as const
/** The pause before a step that failed is tried again. */
export const RETRY_BACKOFF = { firstMs: 1000, maxMs: 30_000 } as const
/** How long Docker must go on answering after a death for it to count as the container's own end. */
export const JUDGE_MS = 1500
/** How often it is looked whether the plan of a container's network arrived, beside when one does. */
export const NETWORK_POLL_MS = 300

/** Docker 20.10 loses the files of a container that it stops without any. */
const OFF_GRACE_SECONDS_MIN = 2

/** A first start that ends so soon with one of these codes never began to run. */
const UNRUNNABLE_MS = 1000
const UNRUNNABLE = new Map([
  [126, 'it is not executable'],
  [127, 'there is no such program in the image'],
])

export const backoffMs = (times: number, how: { readonly firstMs: number; readonly maxMs: number }): number =>
  Math.min(how.firstMs * 2 ** Math.min(Math.max(0, times - 1), 30), how.maxMs)

/** One of our containers as Docker shows it. */
export type Real = {
  readonly runtimeId: string
  readonly workload: string | undefined
  readonly vpc: string | undefined
  readonly subnet: string | undefined
  readonly attempt: number
  readonly recipe: string | undefined
  readonly status: 'created' | 'running' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead'
  readonly pid: number
  /** Docker's own texts: two starts differ in it. */
  readonly startedAt: string
  readonly finishedAt: string
  readonly exitCode: number
  readonly oomKilled: boolean
  readonly memory: number
  readonly nanoCpus: number
  readonly stopGraceSeconds: number
  readonly health: 'starting' | 'healthy' | 'unhealthy' | undefined
  /** Docker was killed while it made it: it has no address and is given none. */
  readonly half: boolean
}

const GRACE_SECONDS = 10

export function realOf(info: ContainerInfo): Real {
  const labels = info.Config.Labels ?? {}
  const health = info.State.Health?.Status
  return {
    runtimeId: info.Id,
    workload: labels[LABEL.workload],
    vpc: labels[LABEL.vpc],
    subnet: labels[LABEL.subnet],
    attempt: Number(labels[LABEL.attempt] ?? 0) || 0,
    recipe: labels[LABEL.recipe],
    status: info.State.Status as Real['status'],
    pid: info.State.Pid,
    startedAt: info.State.StartedAt,
    finishedAt: info.State.FinishedAt,
    exitCode: info.State.ExitCode,
    oomKilled: info.State.OOMKilled,
    memory: info.HostConfig.Memory ?? 0,
    nanoCpus: info.HostConfig.NanoCpus ?? 0,
    stopGraceSeconds: (info.Config as { StopTimeout?: number }).StopTimeout ?? GRACE_SECONDS,
    health: health === 'starting' || health === 'healthy' || health === 'unhealthy' ? health : undefined,
    half: Object.values(info.NetworkSettings.Networks).some((it) => !it.IPAMConfig),
  }
}

/** What is known about one container beside its wish and what Docker shows. */
export type Facts = {
  readonly now: number
  /** Of the container that the wish and the held plan make now; undefined while no plan names its network. */
  readonly recipe: string | undefined
  /** The image of this attempt is here and may be used. */
  readonly fetched: boolean
  /** When a step that failed may be tried again. */
  readonly retryAt: number | undefined
  /** To be removed though no wish says so: an orphan. */
  readonly discarding: boolean
  /** When the last death was noticed by us, with Docker up before and after; undefined: nobody saw it die. */
  readonly diedAt: number | undefined
  /** Short lives in a row, this one included. */
  readonly crashes: number
  /** It runs with its link and without its IPv6 address. */
  readonly lacksIpv6: boolean
}

/** The next thing to do for one container. */
export type Step =
  | { readonly do: 'rest' }
  | { readonly do: 'wait'; readonly untilMs: number; readonly why?: string }
  | { readonly do: 'fetch' }
  | { readonly do: 'create' }
  | { readonly do: 'start'; readonly runtimeId: string }
  | { readonly do: 'stop'; readonly runtimeId: string; readonly graceSeconds: number }
  | { readonly do: 'discard'; readonly runtimeId: string }
  | { readonly do: 'update'; readonly runtimeId: string }
  | { readonly do: 'pause' | 'unpause'; readonly runtimeId: string }
  | { readonly do: 'giveIpv6'; readonly pid: number }
  | { readonly do: 'judge'; readonly ended: Ended }
  | { readonly do: 'fail'; readonly message: string }
  | { readonly do: 'forget' }

const rest: Step = { do: 'rest' }
/** True when it has a process, frozen or not. */
export const isUp = (it: Real): boolean =>
  it.status === 'running' || it.status === 'paused' || it.status === 'restarting'
const msOf = (time: string): number => Date.parse(time) || 0

/** True when the process lived long enough that its end starts a new count. */
export const wasStable = (it: Real): boolean =>
  msOf(it.finishedAt) - msOf(it.startedAt) >= RESTART_BACKOFF.stableMs

/** The container that counts: of the highest attempt, one that runs before one that doesn't. */
export const pick = (reals: readonly Real[]): Real | undefined =>
  reals.toSorted((a, b) => b.attempt - a.attempt || Number(isUp(b)) - Number(isUp(a)))[0]

/** Pure: from the wish, what Docker shows and the facts to the one next step. */
export function planContainer(held: Held | undefined, reals: readonly Real[], facts: Facts): Step {
  const real = pick(reals)
  const extra = reals.find((it) => it !== real && it.status !== 'removing')
  if (extra) return { do: 'discard', runtimeId: extra.runtimeId }
  if (real?.status === 'removing') return { do: 'wait', untilMs: facts.now + NETWORK_POLL_MS }
  if (!held || held.removing) {
    if (!held && !facts.discarding) return rest
    if (!real) return { do: 'forget' }
    return ending(real, facts, held?.wish.stopGraceSeconds ?? real.stopGraceSeconds)
  }
  if (real && real.attempt === held.wish.attempt && isUp(real)) {
    const step = planUp(held.wish, real, facts)
    return step.do !== 'rest' && isLater(facts) ? later(facts) : step
  }
  if (held.failed !== undefined)
    return real && isUp(real) ? ending(real, facts, held.wish.stopGraceSeconds) : rest
  if (held.wish.power === 'off') return real && isUp(real) ? switchOff(held.wish, real) : rest
  if (isLater(facts)) return later(facts)
  if (!real && !facts.fetched) return { do: 'fetch' }
  if (facts.recipe === undefined) {
    return { do: 'wait', untilMs: facts.now + NETWORK_POLL_MS, why: 'its network is not there yet' }
  }
  if (!real) return { do: 'create' }
  if (real.attempt !== held.wish.attempt) {
    // The new image first, so that the old container serves while it is on its way.
    return facts.fetched ? ending(real, facts, held.wish.stopGraceSeconds) : { do: 'fetch' }
  }
  if (real.status === 'created') return begin(held.wish, real, facts)
  return planEnded(held, real, facts)
}

/** What one that is up and of the right attempt lacks. */
function planUp(wish: KeptWish, real: Real, facts: Facts): Step {
  if (wish.power === 'off') return switchOff(wish, real)
  if (facts.lacksIpv6) return { do: 'giveIpv6', pid: real.pid }
  if (differs(wish, real)) return { do: 'update', runtimeId: real.runtimeId }
  if (real.status === 'restarting' || (wish.power === 'paused') === (real.status === 'paused')) return rest
  return { do: wish.power === 'paused' ? 'pause' : 'unpause', runtimeId: real.runtimeId }
}

/** What is frozen hears no signal. */
const switchOff = (wish: KeptWish, real: Real): Step =>
  real.status === 'paused'
    ? { do: 'unpause', runtimeId: real.runtimeId }
    : {
        do: 'stop',
        runtimeId: real.runtimeId,
        graceSeconds: Math.max(wish.stopGraceSeconds, OFF_GRACE_SECONDS_MIN),
      }

const isLater = (facts: Facts): boolean => facts.retryAt !== undefined && facts.retryAt > facts.now
const later = (facts: Facts): Step => ({ do: 'wait', untilMs: facts.retryAt ?? facts.now })

function ending(real: Real, facts: Facts, graceSeconds: number): Step {
  if (isLater(facts)) return later(facts)
  // Removing kills what runs.
  return isUp(real) && graceSeconds > 0
    ? { do: 'stop', runtimeId: real.runtimeId, graceSeconds }
    : { do: 'discard', runtimeId: real.runtimeId }
}

/**
 * A stopped container whose recipe has changed since is replaced instead of started, if nothing in it is to be kept; one
 * half made always is.
 */
const begin = (wish: KeptWish, real: Real, facts: Facts): Step =>
  !real.half && (wish.keep === true || real.recipe === facts.recipe)
    ? { do: 'start', runtimeId: real.runtimeId }
    : { do: 'discard', runtimeId: real.runtimeId }

function planEnded(held: Held, real: Real, facts: Facts): Step {
  // Nobody saw it die while Docker was up: Docker or the host went down under it, whatever its wish says of healing.
  const byItself = isEnded(held, real) || facts.diedAt !== undefined
  if (!byItself) return begin(held.wish, real, facts)
  const unrunnable = held.starts <= 1 && !isEnded(held, real) ? whyUnrunnable(held.wish, real) : undefined
  if (unrunnable !== undefined) return { do: 'fail', message: unrunnable }
  if (held.wish.healing) {
    const ended = msOf(real.finishedAt)
    const at = ended + backoffMs(facts.crashes, RESTART_BACKOFF)
    const count = facts.crashes > 1 ? `, ${facts.crashes} times in a row` : ''
    const how = real.oomKilled ? OUT_OF_MEMORY : `it ended with exit code ${real.exitCode}`
    const why = `${how}${count}, and is started again after a pause`
    // An end that is still to come: the clock was set back, and the wait would be as long.
    return at > facts.now && ended <= facts.now
      ? { do: 'wait', untilMs: at, why }
      : begin(held.wish, real, facts)
  }
  if (isEnded(held, real)) return rest
  const at = (facts.diedAt ?? facts.now) + JUDGE_MS
  if (at > facts.now) return { do: 'wait', untilMs: at }
  const { runtimeId, finishedAt, exitCode } = real
  return { do: 'judge', ended: { runtimeId, finishedAt, exitCode } }
}

/** With an init process it is that one which starts and finds no program to run: codes as a shell has them. */
function whyUnrunnable(wish: KeptWish, real: Real): string | undefined {
  const why = UNRUNNABLE.get(real.exitCode)
  if (why === undefined || msOf(real.finishedAt) - msOf(real.startedAt) > UNRUNNABLE_MS) return undefined
  const [program = 'its command'] = [...(wish.entrypoint ?? []), ...(wish.command ?? [])]
  return `${program} cannot be run: ${why} (code ${real.exitCode})`
}

const isEnded = (held: Held, real: Real): boolean =>
  held.ended?.runtimeId === real.runtimeId && held.ended.finishedAt === real.finishedAt

const differs = (wish: KeptWish, real: Real): boolean => {
  const limits = limitsOf(wish)
  return real.memory !== limits.Memory || real.nanoCpus !== limits.NanoCpus
}

/** What is going on that Docker does not show. */
export type Activity = {
  readonly doing: 'pulling' | 'starting' | 'stopping' | undefined
  readonly progress: { readonly doneBytes: number; readonly totalBytes: number } | undefined
  /** Its image could not be had several times in a row; it goes on being tried. */
  readonly failing: boolean
  /** Why the last step failed or what it waits for. */
  readonly message: string | undefined
  /** By the agent's own checks; undefined when it has none to make. */
  readonly healthy: boolean | undefined
  readonly discarding: boolean
}

/** Pure: what `observe` answers; undefined when there is nothing of that id. */
export function viewOf(
  id: string,
  held: Held | undefined,
  reals: readonly Real[],
  activity: Activity,
): SeenContainer | undefined {
  const real = pick(reals)
  if (!held && !real) return undefined
  const removing = held?.removing ?? activity.discarding
  const older = real !== undefined && held !== undefined && real.attempt < held.wish.attempt
  // While its image is on the way, what serves is still the container of the attempt before.
  const shown = older && (isUp(real) || removing) ? real : older ? undefined : real
  const state = removing ? 'stopping' : stateOf(held, shown, older, activity)
  const message =
    held?.failed ?? activity.message ?? (shown?.oomKilled && !isUp(shown) ? OUT_OF_MEMORY : undefined)
  const ended = shown !== undefined && (shown.status === 'exited' || shown.status === 'dead')
  return {
    id,
    workload: held?.wish.workload ?? real?.workload,
    attempt: shown?.attempt ?? held?.wish.attempt ?? 0,
    state,
    ready: state === 'running' && shown?.status === 'running' && healthOf(held, shown, activity),
    ...(message === undefined ? {} : { message }),
    ...(activity.doing === 'pulling' && activity.progress ? { progress: activity.progress } : {}),
    ...(shown ? { runtimeId: shown.runtimeId } : {}),
    ...(shown && msOf(shown.startedAt) > 0 ? { startedAt: msOf(shown.startedAt) } : {}),
    ...(ended ? { exitCode: shown.exitCode } : {}),
    restarts: Math.max(0, (held?.starts ?? 1) - 1),
    wanted: held !== undefined && !held.removing,
  }
}

const OUT_OF_MEMORY = 'it was ended for using more than its memory'

function stateOf(
  held: Held | undefined,
  shown: Real | undefined,
  older: boolean,
  activity: Activity,
): SeenContainer['state'] {
  if (held?.failed !== undefined) return shown && isUp(shown) ? 'stopping' : 'failed'
  if (activity.doing === 'stopping') return 'stopping'
  if (shown?.status === 'paused' && held?.wish.power === 'paused') return 'paused'
  if (shown && isUp(shown)) return 'running'
  if (held?.wish.power === 'off') return 'off'
  if (activity.failing) return 'failed'
  if (activity.doing) return activity.doing
  if (!held) return shown?.status === 'created' ? 'waiting' : 'exited'
  if (!shown || older || shown.status === 'created' || shown.status === 'removing') return 'waiting'
  return held.wish.healing ? 'waiting' : 'exited'
}

function healthOf(held: Held | undefined, real: Real, activity: Activity): boolean {
  const check = held?.wish.health?.check.type
  if (check === undefined) return true
  return check === 'command' ? real.health === 'healthy' : activity.healthy === true
}
