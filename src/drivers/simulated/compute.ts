import { PassThrough } from 'node:stream'
import type { Clock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'
import { referenceOf } from '#lib/image-reference.ts'
import type {
  ComputeDriver,
  ContainerEvent,
  ContainerWish,
  LogEntry,
  Sample,
  SeenContainer,
  SeenVolume,
} from '#cloud/compute/compute.driver.ts'
import { type Littered, simulatedAudit } from './audit.ts'
import type { Fault } from './network.ts'

/** An image whose name holds this cannot be pulled. */
export const MISSING_IMAGE = 'missing'
const START_MS = 50
const STOP_MS = 20
const PULL_MS = 100
const DISK_MS = 40
const LOG_MAX = 1000

type Container = {
  wish: ContainerWish
  createdAt: number
  restarts: number
  exitCode?: number
  failure?: string
  stoppingAt?: number
  cpuMillicores: number
  log: LogEntry[]
}

export type SimulatedCompute = ComputeDriver &
  Littered & {
    readonly wishes: ReadonlyMap<string, ContainerWish>
    /** The container's process ends with this code, as by itself. */
    exit(id: string, code: number): void
    /** Somebody removed the container behind our back. */
    vanish(id: string): void
    /** From now on it is seen like this, whatever is done to it; without `seen` it is as it is again. */
    pretend(id: string, seen?: Partial<SeenContainer>): void
    /** The same for a volume. */
    pretendVolume(id: string, seen?: SeenVolume): void
    /** What the next samples say. */
    load(id: string, cpuMillicores: number): void
  }

/** Containers that exist only on the clock: for tests and benchmarks. They start within 50 ms and stop within 20. */
export function simulatedCompute(clock: Clock, fault: Fault = () => {}): SimulatedCompute {
  const containers = new Map<string, Container>()
  const pretences = new Map<string, Partial<SeenContainer>>()
  const volumes = new Set<string>()
  const disks = new Map<string, { sizeGib: number; wanted: number; since: number }>()
  const disksSeen = new Map<string, SeenVolume>()
  /** Images that the machine has, or fetches since then. */
  const fetched = new Map<string, number>()
  const listeners = new Set<(event: ContainerEvent) => void>()
  const tell = (id: string, what: string): void => {
    for (const listener of listeners) listener({ id, what, at: clock.now() })
  }
  const gone = (it: Container): boolean =>
    it.stoppingAt !== undefined && clock.now() >= it.stoppingAt + STOP_MS
  const find = (id: string): Container | undefined => {
    const it = containers.get(id)
    if (pretences.has(id)) return it
    if (it && gone(it)) containers.delete(id)
    return it && !gone(it) ? it : undefined
  }
  const isMounted = (volume: string, counts: (wish: ContainerWish) => boolean = () => true): boolean =>
    [...containers.keys()].some((id) => {
      const wish = find(id)?.wish
      return wish && counts(wish) && wish.mounts.some((mount) => mount.volume === volume)
    })
  const stateOf = (it: Container): SeenContainer['state'] => {
    if (it.stoppingAt !== undefined) return 'stopping'
    if (it.failure !== undefined) return 'failed'
    if (it.wish.power === 'off') return 'off'
    if (it.exitCode !== undefined) return 'exited'
    if (clock.now() < it.createdAt + START_MS) return 'starting'
    return it.wish.power === 'paused' ? 'paused' : 'running'
  }
  const seen = (it: Container): SeenContainer => {
    const state = stateOf(it)
    return {
      id: it.wish.id,
      workload: it.wish.workload,
      attempt: it.wish.attempt,
      state,
      ready: state === 'running',
      restarts: it.restarts,
      wanted: it.stoppingAt === undefined,
      runtimeId: `sim-${it.wish.id}-${it.wish.attempt}`,
      ...(it.failure === undefined ? {} : { message: it.failure }),
      ...(state === 'running' ? { startedAt: it.createdAt + START_MS } : {}),
      ...(it.exitCode === undefined ? {} : { exitCode: it.exitCode }),
      ...pretences.get(it.wish.id),
    }
  }
  return {
    ...simulatedAudit(fault),
    wishes: {
      get size() {
        return containers.size
      },
      get: (id: string) => find(id)?.wish,
    } as ReadonlyMap<string, ContainerWish>,
    exit(id, code) {
      const it = find(id)
      if (!it) return
      if (it.wish.healing) {
        it.restarts++
        it.createdAt = clock.now()
      } else it.exitCode = code
      tell(id, 'die')
    },
    vanish(id) {
      containers.delete(id)
      tell(id, 'destroy')
    },
    pretend(id, as) {
      if (as) pretences.set(id, as)
      else pretences.delete(id)
      tell(id, 'pretend')
    },
    pretendVolume(id, as) {
      if (as) disksSeen.set(id, as)
      else disksSeen.delete(id)
    },
    load(id, cpuMillicores) {
      const it = find(id)
      if (it) it.cpuMillicores = cpuMillicores
    },
    async missing() {
      await fault('missing', '')
      return []
    },
    async prepare(id) {
      await fault('prepare', id)
    },
    async apply(wish) {
      await fault('apply', wish.id)
      const held = find(wish.id)
      if (held && held.wish.attempt > wish.attempt)
        throw new CloudError('conflict', `attempt ${wish.attempt} is older than ${held.wish.attempt}`, {
          rule: 'lost_race',
        })
      for (const { volume, disk } of wish.mounts)
        if (!disk) volumes.add(volume)
        else if (!disks.has(volume))
          throw new CloudError('unavailable', `volume ${volume} is not on this machine`)
      fetched.set(referenceOf(wish.image), clock.now() - PULL_MS)
      if (held && held.wish.attempt === wish.attempt) {
        if (held.wish.power === 'off' && wish.power !== 'off') held.createdAt = clock.now()
        held.wish = wish
        return
      }
      containers.set(wish.id, {
        wish,
        createdAt: clock.now(),
        restarts: 0,
        cpuMillicores: 1,
        log: [{ cursor: '0', at: clock.now(), stream: 'stdout', line: `simulated ${wish.image}` }],
        ...(wish.image.includes(MISSING_IMAGE) ? { failure: `no such image: ${wish.image}` } : {}),
      })
      tell(wish.id, 'create')
    },
    async observe(id) {
      await fault('observe', id)
      const it = find(id)
      return it && seen(it)
    },
    async list() {
      await fault('list', '')
      return [...containers.keys()].flatMap((id) => find(id) ?? []).map(seen)
    },
    async remove(id) {
      await fault('remove', id)
      const it = find(id)
      if (it) it.stoppingAt ??= clock.now()
    },
    async applyVolume({ id, sizeGib, from }) {
      await fault('applyVolume', id)
      if (disksSeen.has(id)) return
      const had = disks.get(id)
      if (from !== undefined && !had && !disks.has(from))
        throw new CloudError('not_found', 'what it is to be a copy of is gone')
      if (!had) disks.set(id, { sizeGib: 0, wanted: sizeGib, since: clock.now() })
      else if (had.wanted < sizeGib) Object.assign(had, { wanted: sizeGib, since: clock.now() })
    },
    async observeVolume(volume): Promise<SeenVolume | undefined> {
      await fault('observeVolume', volume)
      const pretended = disksSeen.get(volume)
      if (pretended) return pretended
      const it = disks.get(volume)
      if (!it || it.sizeGib === it.wanted) return it && { state: 'ready', sizeGib: it.sizeGib }
      const { sizeGib } = it
      if (sizeGib > 0 && isMounted(volume, (wish) => wish.power !== 'off'))
        return { state: 'growing', sizeGib, message: 'it grows once no container that runs uses it' }
      if (clock.now() < it.since + DISK_MS) return { state: sizeGib > 0 ? 'growing' : 'making', sizeGib }
      it.sizeGib = it.wanted
      return { state: 'ready', sizeGib: it.sizeGib }
    },
    async removeVolume(volume) {
      await fault('removeVolume', volume)
      if (disks.has(volume) && isMounted(volume))
        throw new CloudError('conflict', 'the volume is still mounted', { rule: 'in_use' })
      disks.delete(volume)
      volumes.delete(volume)
    },
    async volumes() {
      await fault('volumes', '')
      return [...volumes, ...disks.keys()]
    },
    async observeImage({ image }) {
      await fault('observeImage', image)
      if (image.includes(MISSING_IMAGE))
        return fetched.has(referenceOf(image))
          ? { state: 'failed', message: `no such image: ${image}` }
          : { state: 'absent' }
      const since = fetched.get(referenceOf(image))
      if (since === undefined) return { state: 'absent' }
      return { state: clock.now() >= since + PULL_MS ? 'present' : 'pulling' }
    },
    async fetchImage({ image }) {
      await fault('fetchImage', image)
      if (!fetched.has(referenceOf(image))) fetched.set(referenceOf(image), clock.now())
    },
    async samples() {
      await fault('samples', '')
      return [...containers.keys()].flatMap((id): Sample[] => {
        const it = find(id)
        if (!it || stateOf(it) !== 'running') return []
        return [
          {
            id,
            at: clock.now(),
            cpuMillicores: it.cpuMillicores,
            memoryBytes: 8 << 20,
            receivedBytes: 0,
            sentBytes: 0,
          },
        ]
      })
    },
    async *logs(id, { tail }) {
      await fault('logs', id)
      yield* (find(id)?.log ?? []).slice(-(tail ?? LOG_MAX))
    },
    async exec(id, { command }) {
      await fault('exec', id)
      const it = find(id)
      if (!it || stateOf(it) !== 'running')
        throw new CloudError('conflict', 'The container is not running', { rule: 'wrong_state' })
      const stream = new PassThrough()
      stream.end(`simulated ${command.join(' ')}\n`)
      return { stream, exitCode: Promise.resolve(0), resize: async () => await Promise.resolve() }
    },
    async *events(signal) {
      const waiting: ContainerEvent[] = []
      let wake = Promise.withResolvers<void>()
      const listener = (event: ContainerEvent): void => {
        waiting.push(event)
        wake.resolve()
      }
      const stop = (): void => wake.resolve()
      listeners.add(listener)
      signal.addEventListener('abort', stop, { once: true })
      try {
        while (!signal.aborted) {
          await wake.promise
          wake = Promise.withResolvers<void>()
          yield* waiting.splice(0)
        }
      } finally {
        listeners.delete(listener)
      }
    },
    async purge() {
      await fault('purge', '')
      containers.clear()
      volumes.clear()
      disks.clear()
      fetched.clear()
    },
  }
}
