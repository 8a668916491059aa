import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import type { Clock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'
import { readIfThere, writeAtomically } from '#lib/files.ts'
import type { Log } from '#lib/log.ts'
import type { PortRange } from '#lib/ports.ts'
import { createKeyring, openMasterKey } from '#engine/secrets.ts'
import type { NetworkDriver } from '#cloud/network/network.driver.ts'
import type { Links } from '#drivers/docker/attach.ts'
import { type DockerCompute, dockerCompute } from '#drivers/docker/compute.ts'
import { bridgeNetwork } from '#drivers/docker/bridge.ts'
import type { Networks } from '#drivers/docker/networks.ts'
import { type NetworkPlugin, networkPlugin } from '#drivers/docker/plugin.ts'
import { linuxNetwork } from '#drivers/linux/linux.ts'
import { takeLock } from '#supervise/lock.ts'

/** Routers of our own in namespaces, or Docker's bridges alone. */
export type LocalNetwork = 'linux' | 'docker-bridge'

export type LocalHostOptions = {
  /** Everything that is held over restarts; root's alone. One process at a time. */
  readonly directory: string
  /** Marks everything made on the host: names, labels, rules. 1 to 5 of a-z and 0-9. */
  readonly prefix?: string
  /** Everything of the prefix is taken for ours, whichever folder's agent made it: only to purge it. */
  readonly takeOver?: boolean
  /** Where replicas' own sockets are, and whose; in `directory`, and this account's, when absent. */
  readonly instances?: {
    readonly folder: string
    readonly owner: { readonly uid: number; readonly gid: number }
  }
  /** Docker's socket. */
  readonly docker?: string
  /** `linux` when absent. */
  readonly network?: LocalNetwork
  /** Ports of the host that VPCs may publish; PUBLISHED_PORTS_DEFAULT when absent. */
  readonly publishedPorts?: PortRange
  readonly clock: Clock
  readonly log: Log
}

export type LocalHost = {
  readonly network: NetworkDriver & Links
  readonly compute: DockerCompute
  /** Lets go of the host; containers and networks stay as they are. */
  close(): Promise<void>
}

const PREFIX = 'arcus'
const DOCKER_SOCKET = '/var/run/docker.sock'
/** Two agents of one prefix would each remove the other's containers as orphans. */
const HOST_LOCKS = '/run/arcus-host'
/** The folder's file that names its network. */
const NETWORK_FILE = 'network.name'

/** Where locks of the host are; an agent without root has a folder of its user's. */
const hostLocks = (uid: number): string => (uid === 0 ? HOST_LOCKS : `/run/user/${uid}/arcus-host`)

/**
 * The drivers of this machine, in this process: routers, containers and Docker's network plugin. Refused `conflict` while
 * another process holds the folder. Docker may be away: the plugin serves at once, containers wait for it.
 */
export async function localHost(options: LocalHostOptions): Promise<LocalHost> {
  const { clock, log } = options
  const directory = resolve(options.directory)
  const prefix = options.prefix ?? PREFIX
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const pid = `process ${process.pid}`
  const releaseFolder = await hold(
    join(directory, 'lock'),
    `${pid}\n`,
    (holder) => `${directory} is held by another host agent, ${holder}; stop that one first`,
  )
  const hostLock = join(hostLocks(process.getuid?.() ?? 0), `${prefix}.lock`)
  const before = await formerFolder(hostLock)
  const releaseHost = await hold(
    hostLock,
    holder(pid, directory),
    (holder) =>
      `this machine's containers and networks named ${prefix} are kept by another host agent (${holder}); stop that one first`,
  ).catch((error: unknown) => {
    releaseFolder()
    throw error
  })
  const release = (): void => {
    releaseHost()
    releaseFolder()
  }
  if (before !== undefined && before !== directory && holdsPlans(before) && !options.takeOver) {
    release()
    // As before: the next to ask is told the same.
    await writeAtomically(holderOf(hostLock), holder('a process that ended', before))
    throw new CloudError(
      'conflict',
      `this machine's containers and networks named ${prefix} belong to ${before}, whose host agent does not run: end them with \`arcus down --data ${dirname(before)} --purge\`, or remove that folder, and start again`,
    )
  }
  try {
    const containers = join(directory, 'containers')
    const seal = createKeyring(await openMasterKey(join(directory, 'seal.key'), randomBytes))
    // First of all: Docker may be waiting for its plugin since before we started.
    const attached = await openNetwork(options, prefix, containers)
    const { network } = attached
    const compute = await dockerCompute({
      socket: options.docker ?? DOCKER_SOCKET,
      directory: containers,
      instance: prefix,
      networks: attached.networks,
      links: network,
      ...(options.instances ? { instances: options.instances } : {}),
      ...(attached.plugin ? { network: attached.plugin } : {}),
      takeOver: options.takeOver ?? false,
      seal,
      clock,
      log,
    })
    let purged = false
    return {
      network,
      compute: {
        ...compute,
        apply(wish, signal) {
          purged = false
          return compute.apply(wish, signal)
        },
        async purge(signal) {
          await compute.purge(signal)
          purged = true
        },
      },
      async close() {
        await compute.close()
        await attached.close(purged)
        release()
      },
    }
  } catch (error) {
    release()
    throw error
  }
}

const holderOf = (lockFile: string): string => `${lockFile}.holder`
const holder = (who: string, directory: string): string => `${who}, data in ${directory}\n`

/** The folder of the agent that had the lock last, since the machine booted. */
async function formerFolder(lockFile: string): Promise<string | undefined> {
  return /, data in (.+)/.exec((await readIfThere(holderOf(lockFile))) ?? '')?.[1]
}

/** True for the folder of an agent that was not purged: what it made on this machine may still run. */
const holdsPlans = (directory: string): boolean =>
  ['network', 'bridges'].some((it) => existsSync(join(directory, it, 'host.json')))

type Attached = {
  readonly network: NetworkDriver & Links
  /** How Docker gets them. */
  readonly networks: { readonly plugin: string } | Networks
  readonly plugin?: NetworkPlugin
  close(purged: boolean): Promise<void>
}

/** The network that is asked for, if the folder is not another's: what one has made, the other does not know. */
async function openNetwork(options: LocalHostOptions, prefix: string, containers: string): Promise<Attached> {
  const { directory, clock, log, network: asked = 'linux', takeOver = false } = options
  const held = await networkIn(directory)
  if (held !== undefined && held !== asked)
    throw new CloudError(
      'conflict',
      `${directory} is of a cloud with the network ${held}, not ${asked}; end that cloud with \`down --purge\` first, or choose another folder`,
    )
  await writeAtomically(join(directory, NETWORK_FILE), `${asked}\n`)
  if (asked === 'docker-bridge') {
    const socket = options.docker ?? DOCKER_SOCKET
    const network = await bridgeNetwork({
      socket,
      directory: join(directory, 'bridges'),
      instance: prefix,
      takeOver,
      log,
    })
    return { network, networks: network.networks, close: async () => await Promise.resolve(network.close()) }
  }
  const network = linuxNetwork({
    prefix,
    directory: join(directory, 'network'),
    ...(options.publishedPorts ? { publishedPorts: options.publishedPorts } : {}),
    clock,
    log,
  })
  const plugin = await networkPlugin({ name: prefix, directory: containers, links: network, log })
  return {
    network,
    networks: { plugin: prefix },
    plugin,
    async close(purged) {
      await plugin.close()
      // What was purged for good leaves nothing in Docker's own folders either.
      if (purged) await plugin.forget()
    },
  }
}

/** The network that a folder's agent was started with; undefined for a new one. */
export async function networkIn(directory: string): Promise<LocalNetwork | undefined> {
  const text = (await readIfThere(join(directory, NETWORK_FILE)))?.trim()
  if (text === 'linux' || text === 'docker-bridge') return text
  // Folders of before there was a choice.
  return existsSync(join(directory, 'network')) ? 'linux' : undefined
}

/** A lock that the kernel drops when this process dies; `refusal` makes the sentence from who holds it. */
async function hold(
  lockFile: string,
  holder: string,
  refusal: (holder: string) => string,
): Promise<() => void> {
  await mkdir(dirname(lockFile), { recursive: true, mode: 0o755 })
  const lock = takeLock(lockFile)
  const holderFile = holderOf(lockFile)
  if (!lock) throw new CloudError('conflict', refusal((await readIfThere(holderFile))?.trim() ?? 'unknown'))
  await writeAtomically(holderFile, holder)
  return () => lock.release()
}
