import type { ContainerEvent, SeenContainer } from '#cloud/compute/compute.driver.ts'
import type { Clock } from '#lib/clock.ts'
import type { Log } from '#lib/log.ts'
import type { Links } from './attach.ts'
import { recipeOf } from './container.ts'
import type { DockerApi } from './docker.ts'
import { watchHealth } from './health.ts'
import type { Progress } from './images.ts'
import { lacksIpv6 } from './own-link.ts'
import {
  type Activity,
  type Facts,
  RETRY_BACKOFF,
  type Real,
  type Step,
  pick,
  realOf,
  viewOf,
  wasStable,
} from './plan.ts'
import type { Held, Wishes } from './wishes.ts'

/** A pull that fails so often in a row shows as failed, though it goes on being tried. */
const FETCH_TRIES_SHOWN = 3

/** What is known of one container beside its wish; all of it can be found again after a restart. */
export type Track = {
  /** Docker's ids of its containers, also those not looked at yet. */
  readonly runtimeIds: Set<string>
  reals: readonly Real[]
  /** When the last look began. */
  lookedAt: number
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
  /** Seen at the last look: it runs with its link and without its IPv6 address. */
  lacksIpv6: boolean
  health?: { readonly run: string; healthy: boolean; readonly stop: AbortController }
}

export type Tracks = {
  /** Begins one when there is none. */
  of(id: string): Track
  /** Every id with a wish or a container. */
  ids(): readonly string[]
  delete(id: string): void
  /** When the last look at it began; undefined when nothing is known of it. */
  lookedAt(id: string): number | undefined
  /** Asks Docker what its containers are like now. */
  look(id: string): Promise<void>
  facts(id: string): Facts
  /** What `observe` answers. */
  view(id: string): SeenContainer | undefined
  real(id: string): Real | undefined
  /** Tells the listeners when that has changed, except how far the making is of one that is still to run. */
  tell(id: string): void
  /** Calls `tell` at each change, until the function that it gives is called. */
  listen(tell: (event: ContainerEvent) => void): () => void
  /** Docker was away: what was seen of it before holds no more. */
  forgetSeen(): void
}

export const fetchKey = ({ wish }: Held): string => `${wish.attempt} ${wish.image}`

/** Each telling has the whole cloud look at it: what nobody would write down is left out. */
function heardOf(seen: SeenContainer): string {
  const { state, runtimeId: _, ...rest } = seen
  return JSON.stringify(state === 'waiting' || state === 'starting' ? rest : seen)
}

const newTrack = (): Track => ({
  runtimeIds: new Set(),
  reals: [],
  lookedAt: 0,
  why: undefined,
  doing: undefined,
  progress: undefined,
  witnessed: new Set(),
  crashes: { finishedAt: '', count: 0 },
  discarding: false,
  lacksIpv6: false,
})

type Around = {
  readonly api: DockerApi
  readonly wishes: Wishes
  readonly links: Links
  readonly clock: Clock
  readonly log: Log
}

export function createTracks({ api, wishes, links, clock, log }: Around, signal: AbortSignal): Tracks {
  const tracks = new Map<string, Track>()
  const listeners = new Set<(event: ContainerEvent) => void>()
  /** What the listeners heard last of each. */
  const told = new Map<string, string>()

  const of = (id: string): Track => {
    const track = tracks.get(id) ?? newTrack()
    tracks.set(id, track)
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

  const tell = (id: string): void => {
    const seen = view(id)
    const text = seen && heardOf(seen)
    if (told.get(id) === text) return
    if (text === undefined) told.delete(id)
    else told.set(id, text)
    for (const listener of listeners) listener({ id, what: seen?.state ?? 'removed', at: clock.now() })
  }

  const keepHealth = (id: string, held: Held | undefined, real: Real | undefined): void => {
    const track = of(id)
    const check = held?.wish.health
    const own = check && check.check.type !== 'command' && real?.status === 'running' ? check : undefined
    const run = own && real ? `${real.runtimeId} ${real.startedAt} ${JSON.stringify(own)}` : ''
    if ((track.health?.run ?? '') === run) return
    track.health?.stop.abort()
    delete track.health
    if (!own || !real) return
    const health = { run, healthy: false, stop: new AbortController() }
    track.health = health
    const address = (): string | undefined => {
      const attached = links.attachment(id)
      return attached?.reachedAt ?? attached?.plan.fabric
    }
    const said = (healthy: boolean): void => {
      health.healthy = healthy
      tell(id)
    }
    const checked = { check: own, startedAtMs: Date.parse(real.startedAt), address }
    watchHealth(checked, clock, said, AbortSignal.any([signal, health.stop.signal])).catch((error: unknown) =>
      log.error('health check broke', { id, error }),
    )
  }

  const noteDeath = (track: Track, real: Real): void => {
    if (track.crashes.finishedAt !== real.finishedAt) {
      const count = wasStable(real) ? 1 : track.crashes.count + 1
      track.crashes = { finishedAt: real.finishedAt, count }
    }
    if (!track.witnessed.has(real.runtimeId)) delete track.died
    else if (track.died?.finishedAt !== real.finishedAt) {
      track.died = { finishedAt: real.finishedAt, at: clock.now() }
    }
  }

  /** Takes in what Docker shows of one container. */
  const note = async (id: string, reals: readonly Real[]): Promise<void> => {
    const track = of(id)
    track.reals = reals
    const real = pick(reals)
    const attached = real?.status === 'running' ? links.attachment(id) : undefined
    track.lacksIpv6 = real && attached ? await lacksIpv6(real, attached.plan.address6) : false
    // Not before that was waited for: what is put below would take back what was wished meanwhile.
    const held = wishes.get(id)
    for (const it of reals) if (it.status === 'running') track.witnessed.add(it.runtimeId)
    if (real?.status === 'exited' || real?.status === 'dead') noteDeath(track, real)
    keepHealth(id, held, real)
    const began = real && real.attempt === held?.wish.attempt && Date.parse(real.startedAt) > 0
    if (held && began && held.lastStart !== real.startedAt) {
      const { ended: _, ...rest } = held
      const kept = wishes.put({ ...rest, starts: held.starts + 1, lastStart: real.startedAt })
      tell(id)
      await kept
    }
  }

  return {
    of,
    ids: () => [...new Set([...wishes.all().map((it) => it.wish.id), ...tracks.keys()])],
    delete(id) {
      tracks.get(id)?.health?.stop.abort()
      tracks.delete(id)
    },
    lookedAt: (id) => tracks.get(id)?.lookedAt,
    async look(id) {
      const track = of(id)
      track.lookedAt = clock.now()
      const asked = [...track.runtimeIds]
      const infos = await Promise.all(asked.map((it) => api.inspect(it)))
      for (const [n, info] of infos.entries()) if (!info) track.runtimeIds.delete(asked[n] ?? '')
      await note(id, infos.filter((it) => it !== undefined).map(realOf))
    },
    facts(id) {
      const track = of(id)
      const now = clock.now()
      // A death that is still to come: the clock was set back, and the wait would begin anew at every look.
      if (track.died && track.died.at > now) track.died = { ...track.died, at: now }
      const held = wishes.get(id)
      const attached = links.attachment(id)
      return {
        now,
        recipe: held && attached ? recipeOf(held.wish, attached) : undefined,
        fetched: held !== undefined && track.fetched === fetchKey(held),
        // Further off than any pause: the clock was set back.
        retryAt: track.retry && track.retry.at - now > RETRY_BACKOFF.maxMs ? undefined : track.retry?.at,
        discarding: track.discarding,
        diedAt: track.died?.at,
        crashes: track.crashes.count,
        lacksIpv6: track.lacksIpv6,
      }
    },
    view,
    real: (id) => pick(tracks.get(id)?.reals ?? []),
    tell,
    listen(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    forgetSeen() {
      for (const track of tracks.values()) {
        track.witnessed.clear()
        delete track.died
        delete track.fetched
        delete track.retry
      }
    },
  }
}
