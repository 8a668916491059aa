import { access } from 'node:fs/promises'
import { join } from 'node:path'
import type {
  ComputeDriver,
  ContainerEvent,
  ContainerWish,
  InsideFile,
  LogEntry,
  SeenContainer,
} from '#cloud/compute/compute.driver.ts'
import { auditedBy, type Repair } from '#cloud/observe/finding.driver.ts'
import { type Clock, steadyClock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import type { Links } from './attach.ts'
import { lookAround } from './audit.ts'
import { type Convergence, converge } from './converge.ts'
import { type DockerApi, type RegistryLogin, dockerApi } from './docker.ts'
import { untilOver } from './ended.ts'
import { startExec } from './exec.ts'
import { createFetches } from './fetches.ts'
import { type Instances, openInstances } from './instances.ts'
import { openImages } from './images.ts'
import { entriesOf, placeOf, sinceOf } from './logs.ts'
import { missingInDocker } from './missing.ts'
import { dockerNetworks, type Networks } from './networks.ts'
import { openOwner } from './owner.ts'
import { isUp } from './plan.ts'
import type { NetworkPlugin } from './plugin.ts'
import { DEFAULT_LIMITS, type Limits, refusal, refusalOfImage } from './rules.ts'
import { sampler } from './samples.ts'
import { type Volumes, openVolumes } from './volumes.ts'
import { type Held, type KeptWish, type Seal, type Wishes, openWishes } from './wishes.ts'

/** How long a read waits for a Docker that is away before it says so. */
const CONNECT_MS = 4000
const POLL_MS = 200
const PURGE_MS_MAX = 180_000
const EVENTS_BUFFER_MAX = 10_000
const INIT_PATHS = ['/usr/bin', '/usr/local/bin', '/bin', '/usr/sbin', '/usr/local/sbin', '/sbin'] as const

export type DockerComputeOptions = {
  /** Docker's socket. */
  readonly socket: string
  /** Folder for what is held over restarts: wishes, images' holders, resolv.conf files. Root's alone. */
  readonly directory: string
  /** Folder of the volumes; `directory`/volumes when left out. */
  readonly volumes?: string
  /** Where replicas' own sockets are made and whose they are to be; below `directory`, and this account's, when left out. */
  readonly instances?: {
    readonly folder: string
    readonly owner: { readonly uid: number; readonly gid: number }
  }
  /** Marks and begins the names of everything made in Docker: two installations on one Docker don't see each other's. */
  readonly instance: string
  /** Name of our network plugin in Docker, or the networks that Docker has without one. */
  readonly networks: { readonly plugin: string } | Networks
  readonly links: Links
  /** The network plugin, to be audited along. */
  readonly network?: Pick<NetworkPlugin, 'endpoints' | 'look'>
  /** Another folder's containers of this name are taken for ours: only to purge them. */
  readonly takeOver?: boolean
  readonly limits?: Limits
  /** Seals registry passwords on disk. */
  readonly seal: Seal
  readonly clock: Clock
  readonly log: Log
}

/** `close` lets go of Docker; containers run on. */
export type DockerCompute = ComputeDriver & { close(): Promise<void> }

/** Containers on this machine's Docker. It needs no Docker to open; wishes are kept until there is one. */
export async function dockerCompute(options: DockerComputeOptions): Promise<DockerCompute> {
  const { clock, instance } = options
  const limits = options.limits ?? DEFAULT_LIMITS
  const api = dockerApi(options.socket)
  const log = options.log.with({ part: 'docker' })
  const wishes = await openWishes(join(options.directory, 'wishes'), log)
  const images = await openImages(api, options.directory)
  const instances = await openInstances({
    sockets: options.instances?.folder ?? join(options.directory, 'instances'),
    owner: options.instances?.owner ?? { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
    files: join(options.directory, 'inside'),
  })
  const owner = await openOwner(options.directory, options.takeOver)
  const networks =
    'plugin' in options.networks
      ? dockerNetworks(api, instance, options.networks.plugin, owner)
      : options.networks
  const stop = new AbortController()
  const volumes = await openVolumes(options.volumes ?? join(options.directory, 'volumes'), log, stop.signal)
  const directory = join(options.directory, 'resolv')
  const it = converge(
    {
      api,
      wishes,
      images,
      networks,
      volumes,
      instances,
      links: options.links,
      filesOf: (wish) => filesOf(wish, options.seal),
      login: (wish) => loginOf(wish, options.seal),
      instance,
      owner,
      directory,
      init: hasInit,
      clock,
      log,
    },
    stop.signal,
  )
  const sample = sampler(api, clock.now, steadyClock.now)
  const fetches = createFetches(images, stop.signal)

  const reachable = async (signal: AbortSignal): Promise<void> => {
    if (await it.session.opened(CONNECT_MS, signal)) return
    signal.throwIfAborted()
    throw new CloudError(
      'unavailable',
      `Docker does not answer at ${options.socket}; start it: containers wait for it`,
    )
  }

  const remove = async (id: string, signal: AbortSignal): Promise<void> => {
    const held = wishes.get(id)
    if (held) {
      if (!held.removing || !wishes.isSaved(id)) await wishes.put({ ...held, removing: true })
      it.renew(id, { stopFetch: true })
      return
    }
    // Its wish may be one that could not be read.
    await wishes.forget(id)
    await reachable(signal)
    if (it.real(id)) it.discard(id)
    else await instances.remove(id)
  }

  const look = async (signal: AbortSignal): Promise<readonly Repair[]> => {
    await reachable(signal)
    const folders = { wishes: join(options.directory, 'wishes'), resolv: directory, all: options.directory }
    const { steps, ids, real } = it
    return lookAround(
      {
        api,
        wishes,
        networks,
        instances,
        links: options.links,
        plugin: options.network,
        owner,
        instance,
        folders,
        steps,
        ids,
        real,
        now: clock.now,
      },
      signal,
    )
  }

  return {
    ...auditedBy(look, (finding, error) =>
      log.warn('what was found cannot be mended', { ...finding, error }),
    ),
    missing: () => missingInDocker(api),
    async prepare(id) {
      await instances.prepare(id)
    },
    async apply(wish) {
      const why = refusal(wish, limits)
      if (why !== undefined) throw new CloudError('invalid', `the host does not run this container: ${why}`)
      await applyWish(wishes, options.seal, it, wish)
    },
    async observe(id, signal) {
      await reachable(signal)
      return it.view(id)
    },
    async list(signal) {
      await reachable(signal)
      return it
        .ids()
        .map(it.view)
        .filter((seen): seen is SeenContainer => seen !== undefined)
    },
    remove,
    applyVolume: async (wish) => await volumes.disks.apply(wish),
    observeVolume: async (volume) => await volumes.disks.observe(volume),
    async removeVolume(volume) {
      const users = wishes.all().filter(({ wish }) => wish.mounts.some((mount) => mount.volume === volume))
      if (users.length) {
        const blockers = users.map(({ wish }) => `container ${wish.name} (${wish.id})`)
        throw new CloudError('conflict', 'the volume is still mounted', { rule: 'in_use', blockers })
      }
      await volumes.remove(volume)
    },
    volumes: () => volumes.list(),
    async observeImage(wish, signal) {
      await reachable(signal)
      return await fetches.observe(wish)
    },
    async fetchImage(wish, signal) {
      const why = refusalOfImage(String(wish.image))
      if (why !== undefined) throw new CloudError('invalid', why)
      await reachable(signal)
      await fetches.begin(wish)
    },
    async samples(signal) {
      await reachable(signal)
      const running = it.ids().flatMap((id) => {
        const real = it.real(id)
        if (real?.status !== 'running' || real.pid <= 0) return []
        return [{ id, runtimeId: real.runtimeId, pid: real.pid, startedAtMs: Date.parse(real.startedAt) }]
      })
      return sample(running)
    },
    async *logs(id, how, signal) {
      await reachable(signal)
      yield* logsOf(api, it, clock, id, how, AbortSignal.any([signal, stop.signal]))
    },
    async exec(id, how, signal) {
      await reachable(signal)
      const real = it.real(id)
      if (!real) throw new CloudError('not_found', `there is no container ${id}`)
      if (real.status !== 'running')
        throw new CloudError('conflict', 'the container is not running', { rule: 'wrong_state' })
      return startExec(api, real.runtimeId, how, clock, AbortSignal.any([signal, stop.signal]))
    },
    events: (signal) => eventsOf(it, AbortSignal.any([signal, stop.signal])),
    async purge(signal) {
      // Nothing to ask Docker for where there never was one.
      if (wishes.all().length || (await it.session.opened(CONNECT_MS, signal))) await reachable(signal)
      else return removeAll(volumes, instances)
      await purge(api, { it, wishes, volumes, instances, networks, clock }, signal)
    },
    async close() {
      stop.abort()
      api.close()
      await it.idle()
      await volumes.disks.idle()
    },
  }
}

async function hasInit(): Promise<boolean> {
  for (const folder of INIT_PATHS) {
    try {
      await access(join(folder, 'docker-init'))
      return true
    } catch {
      // Looked for in the next one.
    }
  }
  return false
}

const bindingOf = (id: string): string => `container ${id} registry`
const filesBinding = (id: string): string => `container ${id} files`

function loginOf({ id, registry }: KeptWish, seal: Seal): RegistryLogin | undefined {
  if (!registry) return undefined
  const { server: serveraddress, username, sealed } = registry
  return { serveraddress, username, password: seal.open(sealed, bindingOf(id)) }
}

function filesOf({ id, inside }: KeptWish, seal: Seal): readonly InsideFile[] | undefined {
  if (!inside) return undefined
  const contents = JSON.parse(seal.open(inside.sealed, filesBinding(id))) as readonly string[]
  return inside.files.map((it, at) => ({ ...it, content: contents[at] ?? '' }))
}

function keptOf(wish: ContainerWish, before: KeptWish | undefined, seal: Seal): KeptWish {
  const { registry, inside, ...rest } = wish
  const sealed = (plain: string, binding: string, held: string | undefined): string =>
    held !== undefined && opens(held, plain, binding, seal) ? held : seal.seal(plain, binding)
  const contents = JSON.stringify(inside?.files.map((it) => it.content))
  return {
    ...rest,
    ...(registry && {
      registry: {
        server: registry.server,
        username: registry.username,
        sealed: sealed(registry.password, bindingOf(wish.id), before?.registry?.sealed),
      },
    }),
    ...(inside && {
      inside: {
        files: inside.files.map((it) => {
          const { content: _, ...rest } = it
          return rest
        }),
        sealed: sealed(contents, filesBinding(wish.id), before?.inside?.sealed),
      },
    }),
  }
}

/** Sealed anew only when it is another text, so that the same wish is the same text. */
function opens(sealed: string, plain: string, binding: string, seal: Seal): boolean {
  try {
    return seal.open(sealed, binding) === plain
  } catch {
    return false
  }
}

async function applyWish(wishes: Wishes, seal: Seal, it: Convergence, wish: ContainerWish): Promise<void> {
  const held = wishes.get(wish.id)
  if (held?.removing) {
    throw new CloudError('conflict', 'the container is being removed', { rule: 'wrong_state' })
  }
  if (held && wish.attempt < held.wish.attempt) {
    const message = `attempt ${wish.attempt} is older than ${held.wish.attempt}, which is held`
    throw new CloudError('conflict', message, { rule: 'lost_race' })
  }
  const kept = keptOf(wish, held?.wish, seal)
  const newer = held === undefined || wish.attempt > held.wish.attempt
  const begins = held?.wish.power === 'off' && kept.power !== 'off'
  // Switched on by hand: that is no restart.
  const next: Held = newer
    ? { wish: kept, starts: 0 }
    : { ...held, wish: kept, ...(begins ? { starts: 0 } : {}) }
  // The same that was asked for before may have got as far as our memory alone.
  const same = wishes.isSaved(wish.id) && JSON.stringify(next) === JSON.stringify(held)
  try {
    if (!same) await wishes.put(next)
    // One that runs is given its files now, whether or not Docker has told of it yet; one that is to start, then too.
    if (!newer) await it.steps.writeInside(wish.id)
  } finally {
    if (same) it.wake(wish.id)
    else it.renew(wish.id, { stopFetch: newer })
  }
}

async function* logsOf(
  api: DockerApi,
  it: Convergence,
  clock: Clock,
  id: string,
  how: { follow?: boolean; tail?: number; after?: string; sinceMs?: number },
  signal: AbortSignal,
): AsyncGenerator<LogEntry, void, undefined> {
  let after = how.after === undefined ? undefined : placeOf(how.after)
  let tail = after ? undefined : how.tail
  const follow = how.follow ?? false
  let run: string | undefined
  if (!it.view(id)) throw new CloudError('not_found', `there is no container ${id}`)
  try {
    while (!signal.aborted) {
      const real = it.real(id)
      const current = real && `${real.runtimeId} ${real.startedAt}`
      if (real && current !== run) {
        run = current
        const sinceMs = how.sinceMs === undefined ? undefined : (how.sinceMs / 1000).toFixed(3)
        const since = after ? sinceOf(after.time) : sinceMs
        const asked = { follow, tail: tail ?? ('all' as const), ...(since === undefined ? {} : { since }) }
        const stream = await api.logs(real.runtimeId, asked, signal)
        if (stream) {
          const isOver = (): boolean => {
            const now = it.real(id)
            return !now || !isUp(now) || `${now.runtimeId} ${now.startedAt}` !== run
          }
          const source = untilOver<Uint8Array>(stream, { isOver, close: () => stream.destroy(), clock })
          for await (const entry of entriesOf(source, after)) {
            yield entry
            after = placeOf(entry.cursor)
          }
        }
        tail = undefined
      }
      const state = it.view(id)?.state
      if (!follow || state === undefined || state === 'exited' || state === 'failed') return
      await clock.sleep(POLL_MS, signal)
    }
  } catch (error) {
    if (signal.aborted) return
    throw error
  }
}

/** Every change from now on. Ends with the signal, or when the reader is so slow that the buffer is full. */
async function* eventsOf(
  it: Convergence,
  signal: AbortSignal,
): AsyncGenerator<ContainerEvent, void, undefined> {
  const buffer: ContainerEvent[] = []
  let more = Promise.withResolvers<void>()
  let full = false
  const end = (): void => more.resolve()
  const unlisten = it.listen((event) => {
    if (buffer.length >= EVENTS_BUFFER_MAX) full = true
    else buffer.push(event)
    more.resolve()
  })
  signal.addEventListener('abort', end, { once: true })
  try {
    while (!signal.aborted && !full) {
      const event = buffer.shift()
      if (event) {
        yield event
        continue
      }
      more = Promise.withResolvers()
      if (!buffer.length && !signal.aborted) await more.promise
    }
  } finally {
    unlisten()
    signal.removeEventListener('abort', end)
  }
}

type Purged = {
  readonly it: Convergence
  readonly wishes: Wishes
  readonly volumes: Volumes
  readonly instances: Instances
  readonly networks: Networks
  readonly clock: Clock
}

async function purge(
  api: DockerApi,
  { it, wishes, volumes, instances, networks, clock }: Purged,
  signal: AbortSignal,
): Promise<void> {
  for (const held of wishes.all()) {
    await wishes.put({ ...held, removing: true })
    it.renew(held.wish.id, { stopFetch: true })
  }
  // No grace: everything goes, and a container that waits for its own would hold up all others.
  const kill = async (id: string): Promise<void> => {
    const real = it.real(id)
    if (real) await api.remove(real.runtimeId)
    if (!wishes.get(id)) it.discard(id)
    it.wake(id)
  }
  const until = clock.now() + PURGE_MS_MAX
  for (;;) {
    signal.throwIfAborted()
    const left = it.ids().filter((id) => it.view(id) !== undefined)
    if (!left.length) break
    if (clock.now() > until)
      throw new CloudError('unavailable', `${left.length} containers could not be removed`)
    for (const id of left) await kill(id)
    await clock.sleep(POLL_MS, signal)
  }
  await removeAll(volumes, instances)
  const subnets = await networks.list()
  for (const subnet of subnets) await networks.alone(subnet, () => networks.remove(subnet))
  const stuck = subnets.filter(networks.isStuck)
  if (stuck.length) {
    const what = `Docker keeps ${stuck.length} networks, in which it counts endpoints that are gone`
    throw new CloudError('unavailable', `${what}; restart it, which makes it count anew, and repeat this`)
  }
}

async function removeAll(volumes: Volumes, instances: Instances): Promise<void> {
  for (const { id } of await instances.list()) await instances.remove(id)
  for (const volume of await volumes.list()) await volumes.remove(volume)
}
