import { chmod, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CloudError } from '#lib/errors.ts'
import { slots } from '#lib/slots.ts'
import type { Links } from './attach.ts'
import type { InsideFile } from '#cloud/compute/compute.driver.ts'
import { LABEL, containerName, createOptions, limitsOf, resolvConf } from './container.ts'
import type { DockerApi, RegistryLogin } from './docker.ts'
import type { Instances } from './instances.ts'
import type { Images, Progress } from './images.ts'
import type { Networks } from './networks.ts'
import type { Owner } from './owner.ts'
import type { Step } from './plan.ts'
import { type Tracks, fetchKey } from './tracks.ts'
import type { Volumes } from './volumes.ts'
import type { Held, KeptWish, Wishes } from './wishes.ts'

/** Containers started at the same moment: more only makes each of them slower. */
const STARTS_AT_ONCE = 8

export type StepsOptions = {
  readonly api: DockerApi
  readonly wishes: Wishes
  readonly tracks: Tracks
  readonly images: Images
  readonly networks: Networks
  readonly volumes: Volumes
  readonly instances: Instances
  readonly links: Links
  /** The login of a wish for its registry, opened. */
  readonly login: (wish: KeptWish) => RegistryLogin | undefined
  /** The files of a wish, with their contents opened; undefined when it has none of its replica's own. */
  readonly filesOf: (wish: KeptWish) => readonly InsideFile[] | undefined
  readonly instance: string
  readonly owner: Owner
  /** Folder for the containers' resolv.conf files. */
  readonly directory: string
  /** Docker has an init process for containers. */
  readonly init: () => Promise<boolean>
  /** True when Docker is there to stay. */
  readonly stays: () => Promise<boolean>
}

export type Steps = {
  /** Takes one step of a plan. */
  take(id: string, held: Held | undefined, step: Step): Promise<void>
  /** Removes Docker's network of a subnet that is in no plan, and that neither a wish nor a container needs. */
  release(subnet: string): Promise<void>
  /** In place, since the container sees the file and not its name. */
  writeResolvConf(wish: KeptWish): Promise<void>
  /** Has what a container finds of its replica's own be there, and as the wish says that is held now. */
  writeInside(id: string): Promise<void>
}

export function createSteps(options: StepsOptions, signal: AbortSignal): Steps {
  const { api, wishes, tracks, networks, links, instance } = options
  const slot = slots(STARTS_AT_ONCE)
  const resolvPath = (id: string): string => join(options.directory, id)

  const fetch = async (held: Held): Promise<void> => {
    const { id } = held.wish
    const track = tracks.of(id)
    const stop = new AbortController()
    track.fetching = stop
    const onProgress = (progress: Progress): void => {
      track.doing = 'pulling'
      track.progress = progress
      tracks.tell(id)
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

  const create = async ({ wish }: Held): Promise<void> => {
    const attached = links.attachment(wish.id)
    if (!attached) return
    await writeResolvConf(wish)
    await writeInside(wish.id)
    for (const mount of wish.mounts) await options.volumes.ensure(mount)
    const init = await options.init()
    const runtimeId = await networks.using(attached.subnet.id, async () => {
      await networks.ensure(attached)
      const body = createOptions({
        instance,
        owner: options.owner.label,
        wish,
        attached,
        joining: networks.joining(attached, wish),
        resolvConfPath: resolvPath(wish.id),
        volumePath: options.volumes.path,
        instances: options.instances,
        init,
      })
      return api.create(containerName(instance, wish), body)
    })
    tracks.of(wish.id).runtimeIds.add(runtimeId)
  }

  /** Before each start, so that nothing depends on what a crash left of the file. */
  const writeResolvConf = async ({ id, dns }: KeptWish): Promise<void> => {
    await mkdir(options.directory, { recursive: true, mode: 0o700 })
    // Readable for every user inside; the folder above is root's alone.
    await writeFile(resolvPath(id), resolvConf(dns))
    await chmod(resolvPath(id), 0o644)
  }

  const writeInside = async (id: string): Promise<void> => {
    const held = wishes.get(id)
    const files = held && options.filesOf(held.wish)
    if (!files) return
    await options.instances.prepare(id)
    await options.instances.write(id, files)
  }

  const start = async ({ wish }: Held, runtimeId: string): Promise<void> => {
    await writeResolvConf(wish)
    await writeInside(wish.id)
    // Mounts of before the machine went down are gone.
    await options.volumes.using(wish.mounts, () => startWithVolumes(wish.id, runtimeId))
    tracks.of(wish.id).witnessed.add(runtimeId)
  }

  const startWithVolumes = async (id: string, runtimeId: string): Promise<void> => {
    const attached = links.attachment(id)
    if (attached) {
      await networks.using(attached.subnet.id, () => networks.ensure(attached))
      // Docker would wait for its link as long, and holds locks meanwhile.
      await links.inForce(id)
    }
    await slot(async () => {
      if (!(await options.stays())) throw new CloudError('unavailable', 'Docker is going down')
      if (attached) await networks.join(attached, runtimeId)
      await api.start(runtimeId)
    })
  }

  const release = (subnet: string): Promise<void> =>
    networks.alone(subnet, async () => {
      if (links.hasSubnet(subnet) || wishes.all().some((it) => it.wish.subnet === subnet)) return
      if ((await api.list([`${LABEL.instance}=${instance}`, `${LABEL.subnet}=${subnet}`])).length) return
      await networks.remove(subnet)
    })

  const discard = async (id: string, held: Held | undefined, runtimeId: string): Promise<void> => {
    const track = tracks.of(id)
    const subnet = track.reals.find((it) => it.runtimeId === runtimeId)?.subnet
    await api.remove(runtimeId)
    // Of a wish the network is released when the wish is forgotten.
    if (!held && subnet !== undefined) await release(subnet)
  }

  const forget = async (id: string, held: Held | undefined): Promise<void> => {
    await rm(resolvPath(id), { force: true })
    await options.instances.remove(id)
    if (held) {
      await wishes.forget(id)
      await release(held.wish.subnet)
    }
    tracks.delete(id)
  }

  const judge = async (held: Held, step: Extract<Step, { do: 'judge' }>): Promise<void> => {
    // If not, Docker took the container along as it went: it did not end by itself.
    if (!(await options.stays())) return
    const now = wishes.get(held.wish.id)
    if (now && now.wish.attempt === held.wish.attempt) await wishes.put({ ...now, ended: step.ended })
  }

  return {
    release,
    writeResolvConf,
    writeInside,
    async take(id, held, step) {
      switch (step.do) {
        case 'fetch':
          if (held) await fetch(held)
          return
        case 'create':
          if (held) await create(held)
          return
        case 'start':
          if (held) await start(held, step.runtimeId)
          return
        case 'stop':
          await api.stop(step.runtimeId, step.graceSeconds)
          // It did not end by itself.
          tracks.of(id).witnessed.delete(step.runtimeId)
          return
        case 'pause':
        case 'unpause':
          await api[step.do](step.runtimeId)
          return
        case 'giveIpv6':
          return links.giveIpv6(id, `/proc/${step.pid}/ns/net`, 'running', signal)
        case 'discard':
          return discard(id, held, step.runtimeId)
        case 'update':
          if (held) await api.update(step.runtimeId, limitsOf(held.wish))
          return
        case 'judge':
          if (held) await judge(held, step)
          return
        case 'fail':
          if (held) await wishes.put({ ...held, failed: step.message })
          return
        case 'forget':
          return forget(id, held)
        case 'rest':
        case 'wait':
          return
      }
    },
  }
}
