import { rm, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { ContainerEvent, SeenContainer } from '#cloud/compute/compute.driver.ts'
import type { Clock } from '#lib/clock.ts'
import { CloudError, isCloudError, messageOf } from '#lib/errors.ts'
import { writeAtomically } from '#lib/files.ts'
import type { Log } from '#lib/log.ts'
import type { Links } from './attach.ts'
import { LABEL, containerName, createOptions, limitsOf, recipeOf, resolvConf } from './container.ts'
import { type DockerApi, type RegistryLogin, reasonOf, statusOf } from './docker.ts'
import { watchHealth } from './health.ts'
import { FetchFailure, type Images, type Progress } from './images.ts'
import type { Networks } from './networks.ts'
import {
  type Activity,
  type Facts,
  RETRY_BACKOFF,
  type Real,
  type Step,
  backoffMs,
  pick,
  planContainer,
  realOf,
  viewOf,
  wasStable,
} from './plan.ts'
import { type Session, followDocker } from './session.ts'
import { endProcesses } from './leftover.ts'
import type { Volumes } from './volumes.ts'
import type { Held, KeptWish, Wishes } from './wishes.ts'

/** Containers started at the same moment: more only makes each of them slower. */
const STARTS_AT_ONCE = 8
/** Steps of one container before it yields; more in a row means that something undoes them. */
const STEPS_MAX = 20
/** A pull that fails so often in a row shows as failed, though it goes on being tried. */
const FETCH_TRIES_SHOWN = 3
/** Everything is looked at again this often, for what no event told. */
const RESYNC_MS = 30_000
const LOOKS_AT_ONCE = 8

/** What is known of one container beside its wish; all of it can be found again after a restart. */
type Track = {
  reals: readonly Real[]
  /** Attempt and image that were found here. */
  fetched?: string
  fetching?: AbortController
  retry?: { readonly at: number; readonly times: number; readonly message: string; readonly of: Step['do'] }
  why: string | undefined
  doing: Activity['doing']
  progress: Progress | undefined
  /** Containers seen running in this session with Docker. */
  readonly witnessed: Set<string>
  died?: { readonly finishedAt: string; readonly at: number }
  crashes: { readonly finishedAt: string; readonly count: number }
  discarding: boolean
  health?: { readonly run: string; healthy: boolean; readonly stop: AbortController }
  timer?: AbortController
}

export type ConvergeOptions = {
  readonly api: DockerApi
  readonly wishes: Wishes
  readonly images: Images
  readonly networks: Networks
  readonly volumes: Volumes
  readonly links: Links
  /** The login of a wish for its registry, opened. */
  readonly login: (wish: KeptWish) => RegistryLogin | undefined
  readonly instance: string
  /** Folder for the containers' resolv.conf files. */
  readonly directory: string
  readonly init: () => Promise<boolean>
  readonly clock: Clock
  readonly log: Log
}

/** Works, container by container, until Docker shows what the wishes say; alone, whoever is away. */
export type Convergence = {
  readonly session: Session
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
  /** Looks at everything in Docker; ends when it was seen. */
  resync(): Promise<void>
  /** Looks at one of them in Docker. */
  resyncOne(id: string): Promise<void>
  /** Ends when everything was looked at in this session with Docker. */
  synced(): Promise<void>
  /** Calls `tell` at each change of what `view` gives, until the function that it gives is called. */
  listen(tell: (event: ContainerEvent) => void): () => void
  /** After the signal aborted: ends when no work is under way. */
  idle(): Promise<void>
}

export function converge(options: ConvergeOptions, signal: AbortSignal): Convergence {
  const { api, wishes, networks, links, clock, log, instance } = options
  const tracks = new Map<string, Track>()
  const busy = new Map<string, { again: boolean; done: Promise<void> }>()
  const listeners = new Set<(event: ContainerEvent) => void>()
  /** What the listeners heard last of each. */
  const told = new Map<string, string>()
  const slot = slots(STARTS_AT_ONCE)

  const trackOf = (id: string): Track => {
    let track = tracks.get(id)
    if (!track) {
      track = {
        reals: [],
        why: undefined,
        doing: undefined,
        progress: undefined,
        witnessed: new Set(),
        crashes: { finishedAt: '', count: 0 },
        discarding: false,
      }
      tracks.set(id, track)
    }
    return track
  }

  const view = (id: string): SeenContainer | undefined => {
    const track = tracks.get(id)
    return viewOf(id, wishes.get(id), track?.reals ?? [], {
      doing: track?.doing,
      progress: track?.progress,
      failing: track?.retry?.of === 'fetch' && track.retry.times >= FETCH_TRIES_SHOWN,
      message: track?.retry?.message ?? track?.why,
      healthy: track?.health?.healthy,
      discarding: track?.discarding ?? false,
    })
  }

  /** Tells the listeners when what `observe` would answer has changed. */
  const tell = (id: string): void => {
    const seen = view(id)
    const text = seen && JSON.stringify(seen)
    if (told.get(id) === text) return
    if (text === undefined) told.delete(id)
    else told.set(id, text)
    for (const listener of listeners) listener({ id, what: seen?.state ?? 'removed', at: clock.now() })
  }

  const keepHealth = (id: string, held: Held | undefined, real: Real | undefined): void => {
    const track = trackOf(id)
    const check = held?.wish.health
    const own = check && check.check.type !== 'command' && real?.status === 'running' ? check : undefined
    const run = own && real ? `${real.runtimeId} ${real.startedAt} ${JSON.stringify(own)}` : ''
    if (track.health?.run === run) return
    track.health?.stop.abort()
    delete track.health
    if (!own || !real) return
    const health = { run, healthy: false, stop: new AbortController() }
    track.health = health
    const address = (): string | undefined => links.attachment(id)?.plan.fabric
    const said = (healthy: boolean): void => {
      health.healthy = healthy
      tell(id)
    }
    const checked = { check: own, startedAtMs: Date.parse(real.startedAt), address }
    watchHealth(checked, clock, said, AbortSignal.any([signal, health.stop.signal])).catch((error: unknown) =>
      log.error('health check broke', { id, error }),
    )
  }

  /** Takes in what Docker shows of one container. */
  const note = async (id: string, reals: readonly Real[]): Promise<void> => {
    const track = trackOf(id)
    const held = wishes.get(id)
    track.reals = reals
    const real = pick(reals)
    for (const it of reals) if (it.status === 'running') track.witnessed.add(it.runtimeId)
    if (real?.status === 'exited' || real?.status === 'dead') {
      if (track.crashes.finishedAt !== real.finishedAt) {
        const count = wasStable(real) ? 1 : track.crashes.count + 1
        track.crashes = { finishedAt: real.finishedAt, count }
      }
      if (!track.witnessed.has(real.runtimeId)) delete track.died
      else if (track.died?.finishedAt !== real.finishedAt) {
        track.died = { finishedAt: real.finishedAt, at: clock.now() }
      }
    }
    keepHealth(id, held, real)
    const began = real && real.attempt === held?.wish.attempt && Date.parse(real.startedAt) > 0
    if (held && began && held.lastStart !== real.startedAt) {
      const { ended: _, ...rest } = held
      await wishes.put({ ...rest, starts: held.starts + 1, lastStart: real.startedAt })
    }
  }

  const look = async (id: string): Promise<void> => {
    const found = await api.list([`${LABEL.instance}=${instance}`, `${LABEL.id}=${id}`])
    const infos = await Promise.all(found.map((it) => api.inspect(it.Id)))
    await note(id, infos.filter((it) => it !== undefined).map(realOf))
  }

  const factsOf = (id: string): Facts => {
    const track = trackOf(id)
    const held = wishes.get(id)
    const attached = links.attachment(id)
    return {
      now: clock.now(),
      recipe: held && attached ? recipeOf(held.wish, attached) : undefined,
      fetched: held !== undefined && track.fetched === fetchKey(held),
      retryAt: track.retry?.at,
      discarding: track.discarding,
      diedAt: track.died?.at,
      crashes: track.crashes.count,
    }
  }

  /** Docker's network of a subnet goes when neither a wish nor a container needs it. */
  const release = (subnet: string): Promise<void> =>
    networks.within(subnet, async () => {
      if (wishes.all().some((it) => it.wish.subnet === subnet && !it.removing)) return
      if ((await api.list([`${LABEL.instance}=${instance}`, `${LABEL.subnet}=${subnet}`])).length) return
      await networks.remove(subnet)
    })

  const resolvPath = (id: string): string => join(options.directory, id)

  const create = async (held: Held): Promise<void> => {
    const { wish } = held
    const attached = links.attachment(wish.id)
    if (!attached) return
    for (const mount of wish.mounts) await options.volumes.ensure(mount.volume)
    await mkdir(options.directory, { recursive: true, mode: 0o700 })
    // Readable for every user inside; the folder above is root's alone.
    await writeAtomically(resolvPath(wish.id), resolvConf(wish.dns), 0o644)
    const body = createOptions({
      instance,
      wish,
      attached,
      resolvConfPath: resolvPath(wish.id),
      volumePath: options.volumes.path,
      init: await options.init(),
    })
    await networks.within(attached.subnet.id, async () => {
      await networks.ensure(attached)
      await api.create(containerName(instance, wish), body)
    })
  }

  const start = async (id: string, runtimeId: string): Promise<void> => {
    const attached = links.attachment(id)
    if (attached) await networks.within(attached.subnet.id, () => networks.ensure(attached))
    await slot(async () => {
      if (!(await stays(id))) throw new CloudError('unavailable', 'Docker is going down')
      await api.start(runtimeId)
    })
    trackOf(id).witnessed.add(runtimeId)
  }

  const fetch = async (held: Held): Promise<void> => {
    const { id } = held.wish
    const track = trackOf(id)
    const stop = new AbortController()
    track.fetching = stop
    track.progress = undefined
    const onProgress = (progress: Progress): void => {
      track.progress = progress
      tell(id)
    }
    try {
      const within = AbortSignal.any([signal, stop.signal])
      await options.images.fetch(held.wish, options.login(held.wish), onProgress, within)
      track.fetched = fetchKey(held)
    } finally {
      delete track.fetching
      track.progress = undefined
    }
  }

  /**
   * True when Docker is there to stay, for all that can be seen. A daemon that is shutting down still serves connections
   * that are open: it stops containers, and what is started then is lost to it.
   */
  const stays = async (id: string): Promise<boolean> => {
    if (await session.confirm()) return true
    // It took the container along, which so did not end by itself.
    const track = trackOf(id)
    delete track.died
    track.witnessed.clear()
    return false
  }

  const judge = async (id: string, held: Held, step: Extract<Step, { do: 'judge' }>): Promise<void> => {
    if (!(await stays(id))) return
    const now = wishes.get(id)
    if (now && now.wish.attempt === held.wish.attempt) await wishes.put({ ...now, ended: step.ended })
  }

  const forget = async (id: string, held: Held | undefined): Promise<void> => {
    if (held) await release(held.wish.subnet)
    await rm(resolvPath(id), { force: true })
    await wishes.forget(id)
    tracks.get(id)?.health?.stop.abort()
    tracks.delete(id)
  }

  const act = async (id: string, held: Held | undefined, step: Step): Promise<void> => {
    switch (step.do) {
      case 'fetch':
        return held && fetch(held)
      case 'create':
        return held && create(held)
      case 'start':
        return start(id, step.runtimeId)
      case 'stop':
        await api.stop(step.runtimeId, step.graceSeconds)
        return
      case 'discard': {
        const subnet = trackOf(id).reals.find((it) => it.runtimeId === step.runtimeId)?.subnet
        await api.remove(step.runtimeId)
        if (subnet !== undefined) await release(subnet)
        return
      }
      case 'update':
        if (held) await api.update(step.runtimeId, limitsOf(held.wish))
        return
      case 'judge':
        return held && judge(id, held, step)
      case 'fail':
        if (held && wishStands(id, held)) await wishes.put({ ...held, failed: step.message })
        return
      case 'forget':
        return forget(id, held)
      case 'rest':
      case 'wait':
        return
    }
  }

  /** A step failed: tried again later, or never when it would end the same. */
  const failed = async (id: string, held: Held | undefined, step: Step, error: unknown): Promise<void> => {
    const track = trackOf(id)
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
      await wishes.put({ ...now, failed: message })
      return
    }
    if (status === 404) delete track.fetched
    if (step.do === 'start' && TASK_LEFT.test(message)) await endProcesses(step.runtimeId)
    if (step.do === 'start' || step.do === 'create') networks.doubt()
    if (isCloudError(error, 'unavailable') && session.current() === undefined) return
    track.retry = { at: clock.now() + backoffMs(times, RETRY_BACKOFF), times, message, of: step.do }
  }
  const wishStands = (id: string, held: Held | undefined): boolean => {
    const now = wishes.get(id)
    return now !== undefined && !now.removing && now.wish.attempt === held?.wish.attempt
  }

  const work = async (id: string): Promise<void> => {
    for (let steps = 0; steps < STEPS_MAX; steps++) {
      if (signal.aborted || session.current() === undefined) return
      await look(id)
      const held = wishes.get(id)
      const track = trackOf(id)
      const step = planContainer(held, track.reals, factsOf(id))
      track.why = step.do === 'wait' ? step.why : undefined
      track.doing = DOING[step.do]
      if (step.do === 'rest' && !held && !track.reals.length) tracks.delete(id)
      tell(id)
      if (step.do === 'rest') return
      if (step.do === 'wait') return wakeAt(id, step.untilMs)
      log.debug('container step', { id, step: step.do })
      try {
        await act(id, held, step)
        delete track.retry
      } catch (error) {
        await failed(id, held, step, error)
      } finally {
        track.doing = undefined
      }
      if (step.do === 'forget') return tell(id)
    }
    wakeAt(id, clock.now() + RETRY_BACKOFF.maxMs)
  }

  const wakeAt = (id: string, at: number): void => {
    const track = trackOf(id)
    track.timer?.abort()
    const timer = new AbortController()
    track.timer = timer
    clock.sleep(Math.max(0, at - clock.now()), AbortSignal.any([signal, timer.signal])).then(
      () => wake(id),
      () => {},
    )
  }

  const wake = (id: string): void => {
    if (signal.aborted) return
    const now = busy.get(id)
    if (now) {
      now.again = true
      return
    }
    const turn = { again: false, done: Promise.resolve() }
    busy.set(id, turn)
    tracks.get(id)?.timer?.abort()
    turn.done = work(id)
      .catch((error: unknown) => {
        log.warn('container cannot be looked at', { id, error: messageOf(error) })
        if (session.current() !== undefined) wakeAt(id, clock.now() + RETRY_BACKOFF.firstMs)
      })
      .finally(() => {
        busy.delete(id)
        if (turn.again) wake(id)
      })
  }

  const resync = async (): Promise<void> => {
    const found = await api.list([`${LABEL.instance}=${instance}`])
    const ids = new Set([
      ...found.map((it) => it.Labels[LABEL.id] ?? '').filter(Boolean),
      ...wishes.all().map((it) => it.wish.id),
      ...tracks.keys(),
    ])
    const looks = slots(LOOKS_AT_ONCE)
    await Promise.all([...ids].map((id) => looks(() => (busy.has(id) ? Promise.resolve() : look(id)))))
    for (const id of ids) wake(id)
  }

  let syncing: Promise<void> = Promise.resolve()
  const resyncSafely = (): Promise<void> =>
    resync().catch((error: unknown) => log.warn('docker cannot be listed', { error: messageOf(error) }))
  const session: Session = followDocker(
    api,
    {
      instance,
      clock,
      log,
      onOpen: () => {
        networks.doubt()
        links
          .dockerStarted()
          .catch((error: unknown) => log.error('network rules beside docker failed', { error }))
        syncing = resyncSafely()
      },
      onClose: () => {
        for (const track of tracks.values()) {
          track.witnessed.clear()
          delete track.died
          delete track.fetched
          delete track.retry
        }
      },
      onEvent: (event) => {
        const id = event.Actor?.Attributes?.[LABEL.id]
        if (id) wake(id)
      },
    },
    signal,
  )
  const patrol = async (): Promise<void> => {
    for (;;) {
      await clock.sleep(RESYNC_MS, signal)
      if (session.current() !== undefined) await resyncSafely()
    }
  }
  patrol().catch(() => {})

  const convergence: Convergence = {
    session,
    wake,
    renew(id, { stopFetch }) {
      const track = trackOf(id)
      delete track.retry
      track.discarding = false
      if (stopFetch) {
        track.crashes = { finishedAt: '', count: 0 }
        track.fetching?.abort(new Error('the wish was replaced'))
      }
      tell(id)
      wake(id)
    },
    discard(id) {
      trackOf(id).discarding = true
      wake(id)
    },
    view,
    real: (id) => pick(tracks.get(id)?.reals ?? []),
    ids: () => [...new Set([...wishes.all().map((it) => it.wish.id), ...tracks.keys()])],
    resync,
    resyncOne: (id) => (busy.has(id) ? Promise.resolve() : look(id)),
    synced: () => syncing,
    async idle() {
      await Promise.allSettled([...busy.values()].map((turn) => turn.done))
    },
    listen(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
  }
  return convergence
}

const DOING: Readonly<Record<Step['do'], Activity['doing']>> = {
  fetch: 'pulling',
  create: 'starting',
  start: 'starting',
  stop: 'stopping',
  discard: undefined,
  update: undefined,
  judge: undefined,
  fail: undefined,
  forget: undefined,
  rest: undefined,
  wait: undefined,
}

/** Docker's words when it lost sight of a container that still runs; it starts it once its processes have ended. */
const TASK_LEFT = /task \w+.*already exists/

const fetchKey = (held: Held): string => `${held.wish.attempt} ${held.wish.image}`

/** Runs at most `max` pieces of work at once; the others wait their turn. */
function slots(max: number): <T>(work: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = []
  let used = 0
  return async (work) => {
    if (used >= max) await new Promise<void>((go) => waiting.push(go))
    else used++
    try {
      return await work()
    } finally {
      const next = waiting.shift()
      if (next) next()
      else used--
    }
  }
}
