import type { SeenContainer } from '#cloud/compute/compute.driver.ts'
import type { Clock } from '#lib/clock.ts'
import { isCloudError, messageOf } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import { slots } from '#lib/slots.ts'
import { LABEL } from './container.ts'
import { type ContainerSummary, reasonOf, statusOf } from './docker.ts'
import { FetchFailure } from './images.ts'
import { endProcesses } from './leftover.ts'
import { type Activity, RETRY_BACKOFF, type Real, type Step, backoffMs, planContainer } from './plan.ts'
import { PING_MS, type Session, followDocker } from './session.ts'
import { type Steps, type StepsOptions, createSteps } from './steps.ts'
import { type Tracks, createTracks } from './tracks.ts'
import type { Held } from './wishes.ts'

/** Steps of one container before it yields; more in a row means that something undoes them. */
const STEPS_MAX = 20
/** Docker is listed again this often, for what no event told. */
const PATROL_MS = 30_000
const LOOKS_AT_ONCE = 8
/**
 * Docker's words when it was killed in the midst of a start and lost sight of what it had begun: the container's processes,
 * or the one that waits to become its program. It starts it once these have ended.
 */
const TASK_LEFT = /task \w+.*already exists|id already in use/

export type ConvergeOptions = Omit<StepsOptions, 'tracks' | 'stays'> & {
  readonly clock: Clock
  readonly log: Log
}

/** Works, container by container, until Docker shows what the wishes say; alone, whoever is away. */
export type Convergence = {
  readonly session: Session
  readonly steps: Pick<Steps, 'release' | 'writeResolvConf' | 'writeInside'>
  /** Looks at it now. */
  wake(id: string): void
  /** Its wish changed or was withdrawn: what failed before counts no more. */
  renew(id: string, how: { readonly stopFetch: boolean }): void
  /** Removes a container that no wish is held for. */
  discard(id: string): void
  view(id: string): SeenContainer | undefined
  real(id: string): Real | undefined
  /** Every id with a wish or a container. */
  ids(): readonly string[]
  listen: Tracks['listen']
  /** After the signal aborted: ends when no work is under way. */
  idle(): Promise<void>
}

type Turn = { again: boolean; eventAt: number; done: Promise<void> }

export function converge(options: ConvergeOptions, signal: AbortSignal): Convergence {
  const { api, wishes, networks, links, clock, log, instance, owner } = options
  const tracks = createTracks(options, signal)
  const busy = new Map<string, Turn>()
  const timers = new Map<string, AbortController>()
  const ours = [`${LABEL.instance}=${instance}`]

  const wishStands = (id: string, held: Held | undefined): boolean => {
    const now = wishes.get(id)
    return now !== undefined && !now.removing && now.wish.attempt === held?.wish.attempt
  }

  /** A step failed: tried again later, or never when it would end the same. */
  const failed = async (id: string, held: Held | undefined, step: Step, error: unknown): Promise<void> => {
    const track = tracks.of(id)
    if (signal.aborted || (step.do === 'fetch' && !wishStands(id, held))) return
    const status = statusOf(error)
    const times = (track.retry?.times ?? 0) + 1
    const message = status === undefined ? messageOf(error) : reasonOf(error)
    log.warn('container step failed', { id, step: step.do, times, status, error: message })
    const final =
      error instanceof FetchFailure
        ? error.what === 'final'
        : (step.do === 'create' || step.do === 'start') && status === 400
    const now = wishes.get(id)
    if (final && now && wishStands(id, held)) {
      delete track.retry
      return wishes.put({ ...now, failed: message })
    }
    if (status === 404) delete track.fetched
    if (step.do === 'start' && TASK_LEFT.test(message)) await endProcesses(step.runtimeId)
    if (step.do === 'start' || step.do === 'create') networks.doubt()
    if (isCloudError(error, 'unavailable') && session.current() === undefined) return
    track.retry = { at: clock.now() + backoffMs(times, RETRY_BACKOFF), times, message, of: step.do }
  }

  const work = async (id: string): Promise<void> => {
    for (let count = 0; count < STEPS_MAX; count++) {
      if (signal.aborted || session.current() === undefined) return
      await tracks.look(id)
      const held = wishes.get(id)
      const track = tracks.of(id)
      const step = planContainer(held, track.reals, tracks.facts(id))
      track.why = step.do === 'wait' ? step.why : undefined
      track.doing = DOING[step.do]
      if (step.do === 'rest' && !held && !track.reals.length) tracks.delete(id)
      tracks.tell(id)
      if (step.do === 'rest') return
      if (step.do === 'wait') return wakeAt(id, step.untilMs)
      log.debug('container step', { id, step: step.do })
      try {
        await steps.take(id, held, step)
        delete track.retry
      } catch (error) {
        await failed(id, held, step, error)
      } finally {
        track.doing = undefined
      }
      if (step.do === 'forget' && !wishes.get(id)) return tracks.tell(id)
    }
    wakeAt(id, clock.now() + RETRY_BACKOFF.maxMs)
  }

  const wakeAt = (id: string, at: number): void => {
    const timer = new AbortController()
    timers.get(id)?.abort()
    timers.set(id, timer)
    clock.sleep(Math.max(0, at - clock.now()), AbortSignal.any([signal, timer.signal])).then(
      () => wake(id),
      () => {},
    )
  }

  const wake = (id: string): void => {
    if (signal.aborted) return
    const under = busy.get(id)
    if (under) {
      under.again = true
      return
    }
    timers.get(id)?.abort()
    timers.delete(id)
    const turn: Turn = { again: false, eventAt: 0, done: Promise.resolve() }
    busy.set(id, turn)
    turn.done = work(id)
      .catch((error: unknown) => {
        log.warn('container cannot be looked at', { id, error: messageOf(error) })
        if (session.current() !== undefined) wakeAt(id, clock.now() + RETRY_BACKOFF.firstMs)
      })
      .finally(() => {
        busy.delete(id)
        // Nothing was looked at, and would not be however often: everything is woken when Docker answers again.
        if (session.current() === undefined) return
        if (turn.again || turn.eventAt >= (tracks.lookedAt(id) ?? Infinity)) wake(id)
      })
  }

  /** One that a wish is held for is ours, whoever made it: the folder may have been restored. */
  const isOurs = (labels: Readonly<Record<string, string>>): boolean =>
    owner.owns(labels[LABEL.owner]) || wishes.get(labels[LABEL.id] ?? '') !== undefined

  const release = (subnet: string): Promise<void> =>
    steps.release(subnet).catch((error: unknown) => {
      // The patrol finds it again.
      log.debug("a subnet's network in Docker stays for now", { subnet, error: messageOf(error) })
    })

  /** Takes in Docker's whole list: which containers there are, and which of them differ from what is known. */
  const survey = async (listed: readonly ContainerSummary[]): Promise<readonly string[]> => {
    const found = listed.filter((it) => isOurs(it.Labels))
    const byId = new Map<string, ContainerSummary[]>()
    for (const it of found) {
      const id = it.Labels[LABEL.id]
      if (id) byId.set(id, [...(byId.get(id) ?? []), it])
    }
    const changed = [...new Set([...byId.keys(), ...tracks.ids()])].filter((id) => {
      const track = tracks.of(id)
      const now = byId.get(id) ?? []
      for (const it of now) track.runtimeIds.add(it.Id)
      const shown = now.map((it) => `${it.Id} ${it.State}`).toSorted()
      const known = track.reals.map((it) => `${it.runtimeId} ${it.status}`).toSorted()
      return shown.join() !== known.join() || !track.lookedAt
    })
    // A network of a subnet that went while nobody could remove it.
    const used = new Set([
      ...found.map((it) => it.Labels[LABEL.subnet]),
      ...wishes.all().map((it) => it.wish.subnet),
    ])
    for (const subnet of await networks.list()) if (!used.has(subnet)) await release(subnet)
    return changed
  }

  const session = followDocker(
    api,
    {
      instance,
      clock,
      log,
      async onOpen() {
        tracks.forgetSeen()
        networks.doubt()
        await links.dockerStarted()
        await survey(await api.list(ours))
        const look = slots(LOOKS_AT_ONCE)
        const looks = tracks.ids().map((id) => look(() => tracks.look(id)))
        const failed = (await Promise.allSettled(looks)).some((it) => it.status === 'rejected')
        // One that Docker cannot tell about, though it is there, is looked at again by itself: all others do not wait for it.
        if (failed) await api.ping(PING_MS)
      },
      onOpened: () => {
        for (const id of tracks.ids()) wake(id)
      },
      onEvent: (event) => {
        const labels = event.Actor?.Attributes ?? {}
        const id = labels[LABEL.id]
        if (!id || !isOurs(labels)) return
        const track = tracks.of(id)
        if (event.Actor?.ID) track.runtimeIds.add(event.Actor.ID)
        const at = Math.floor((event.timeNano ?? 0) / 1_000_000)
        const under = busy.get(id)
        // Most events are of steps just taken, and what they tell was seen since.
        if (under) under.eventAt = Math.max(under.eventAt, at)
        // A look that is still to come: the clock was set back.
        else if (at >= track.lookedAt || track.lookedAt > clock.now()) wake(id)
      },
    },
    signal,
  )
  const unlisten = links.onPlan(({ vpc, gone }) => {
    for (const subnet of gone) void release(subnet)
    for (const { wish } of wishes.all())
      if (wish.vpc === vpc && timers.has(wish.id) && !tracks.real(wish.id) && links.attachment(wish.id))
        wake(wish.id)
  })
  signal.addEventListener('abort', unlisten, { once: true })
  const steps = createSteps({ ...options, tracks, stays: () => session.confirm() }, signal)

  const patrol = async (): Promise<void> => {
    for (;;) {
      await clock.sleep(PATROL_MS, signal)
      if (session.current() === undefined) continue
      try {
        for (const id of await survey(await api.list(ours))) wake(id)
      } catch (error) {
        log.warn('docker cannot be listed', { error: messageOf(error) })
      }
    }
  }
  patrol().catch(() => {})

  return {
    session,
    steps,
    wake,
    renew(id, { stopFetch }) {
      const track = tracks.of(id)
      delete track.retry
      track.discarding = false
      if (stopFetch) {
        track.crashes = { finishedAt: '', count: 0 }
        track.fetching?.abort(new Error('the wish was replaced'))
      }
      tracks.tell(id)
      wake(id)
    },
    discard(id) {
      tracks.of(id).discarding = true
      wake(id)
    },
    view: tracks.view,
    real: tracks.real,
    ids: tracks.ids,
    listen: tracks.listen,
    async idle() {
      await Promise.allSettled([...busy.values()].map((turn) => turn.done))
    },
  }
}

const DOING: Readonly<Partial<Record<Step['do'], Activity['doing']>>> = {
  create: 'starting',
  start: 'starting',
  stop: 'stopping',
}
