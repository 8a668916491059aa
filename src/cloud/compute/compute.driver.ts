import type { Duplex } from 'node:stream'
import type { Audited } from '#cloud/observe/finding.driver.ts'

export type HealthCheck = {
  readonly check:
    | { readonly type: 'tcp'; readonly port: number }
    | { readonly type: 'http'; readonly port: number; readonly path: string }
    | { readonly type: 'command'; readonly command: readonly string[] }
  readonly intervalSeconds: number
  readonly timeoutSeconds: number
  /** Failures in a row that make it unhealthy. */
  readonly failuresMax: number
  /** Failures within this time after the start do not count. */
  readonly startSeconds: number
}

/** A file that a container finds at `/var/run/cycle/<name>`, read-only. */
export type InsideFile = {
  /** A folder and a name in it: `metadata/…`, `tls/…` or `variables/…`. */
  readonly name: string
  /** In base64. */
  readonly content: string
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Where in the container it is found too; a change is used at its next start. */
  readonly at?: string
}

/** One container as it should be. Everything in it is checked again by the host agent's closed set of rules. */
export type ContainerWish = {
  /** Id of the replica. */
  readonly id: string
  readonly tenant: string
  readonly workload: string
  readonly vpc: string
  readonly subnet: string
  /** A higher attempt replaces the container of a lower one with a new one; a lower attempt than the one held is refused. */
  readonly attempt: number
  readonly name: string
  readonly image: string
  /** For the pull only: not kept on disk unsealed, not in any listing. */
  readonly registry?: { readonly server: string; readonly username: string; readonly password: string }
  readonly entrypoint?: readonly string[]
  readonly command?: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly user?: string
  readonly workdir?: string
  readonly hostname: string
  readonly cpuMillicores: number
  readonly memoryMib: number
  readonly pidsMax: number
  /** Beyond the platform's short default list; only those the host agent allows. */
  readonly capabilities: readonly string[]
  /** A directory the host keeps for `volume`, mounted at `path`; made when absent, but with `disk`: that one has to be there. */
  readonly mounts: readonly {
    readonly volume: string
    readonly path: string
    readonly readOnly: boolean
    readonly disk?: boolean
  }[]
  /**
   * It finds at `/var/run/cycle` what is its replica's own: the folder that `prepare` made, as `api`, and these files. A
   * change of their contents reaches a running container. Absent: it finds nothing there.
   */
  readonly inside?: { readonly files: readonly InsideFile[] }
  readonly health?: HealthCheck
  /** Start it again when it ends (with a backoff). Off: it ends once, and is started again only when Docker or the host went down under it. */
  readonly healing: boolean
  readonly stopGraceSeconds: number
  /** `paused`: its processes are frozen, their memory is kept. `off`: it does not run and keeps what it wrote. Absent: it runs. */
  readonly power?: 'paused' | 'off'
  /** What it wrote matters: its container is replaced for a higher attempt alone. Else also when it starts and its wish has changed. */
  readonly keep?: boolean
  readonly dns: {
    readonly search: readonly string[]
    readonly ndots: number
    /** Resolvers for names outside, where the network leaves names to Docker; empty or absent: the host's. */
    readonly nameservers?: readonly string[]
  }
  /** What others in its VPC know it by, where the network leaves names to Docker. */
  readonly names?: readonly string[]
}

export type SeenContainer = {
  readonly id: string
  readonly workload: string | undefined
  readonly attempt: number
  /**
   * - `pulling`: the image is on its way.
   * - `waiting`: between two starts, or its network is not there yet; `message` says why.
   * - `paused`, `off`: as its wish has it.
   * - `exited`: ended by itself and stays so.
   * - `failed`: cannot start; `message` says why. For good (no such image, refused login, bad command): a new attempt tries
   *   again. A registry that is away is asked again meanwhile, and may still let it run.
   */
  readonly state:
    | 'pulling'
    | 'waiting'
    | 'starting'
    | 'running'
    | 'paused'
    | 'stopping'
    | 'off'
    | 'exited'
    | 'failed'
  /** Running and, when it has a health check, healthy. */
  readonly ready: boolean
  readonly message?: string
  /** How much of its image is there, while that is on its way; of the next attempt's while one of before runs. */
  readonly progress?: { readonly doneBytes: number; readonly totalBytes: number }
  readonly runtimeId?: string
  readonly startedAt?: number
  readonly exitCode?: number
  /** Starts after the first of this attempt. */
  readonly restarts: number
  /** False when no wish is held for it: an orphan. */
  readonly wanted: boolean
}

/** A volume of a size of its own, that what is written to it cannot pass. */
export type VolumeWish = {
  readonly id: string
  /** It grows when this does, once nothing that runs uses it; it never shrinks. */
  readonly sizeGib: number
  /** The volume whose content it begins with, as of one moment; empty when left out. Counts only until it is made. */
  readonly from?: string
}

export type SeenVolume = {
  /** `growing`: it is there, smaller than wanted; `message` says what it waits for. */
  readonly state: 'making' | 'ready' | 'growing' | 'failed'
  readonly sizeGib: number
  readonly message?: string
}

export type Sample = {
  readonly id: string
  readonly at: number
  /** Averaged since the sample before. */
  readonly cpuMillicores: number
  /** Processor time since its start, in nanoseconds; absent where it is not known. */
  readonly cpuNs?: number
  readonly memoryBytes: number
  readonly receivedBytes: number
  readonly sentBytes: number
}

export type LogEntry = {
  /** Opaque, to go on after a break. */
  readonly cursor: string
  readonly at: number
  readonly stream: 'stdout' | 'stderr'
  readonly line: string
}

/** Something happened to a container; `observe` says what is true now. */
export type ContainerEvent = { readonly id: string; readonly what: string; readonly at: number }

/** An image as a tenant names it, with the login that its registry asks for. */
export type ImageWish = Pick<ContainerWish, 'tenant' | 'image' | 'registry'>

export type SeenImage = {
  /** `present`: the machine has it, and a container of this tenant and login may use it without asking the registry. */
  readonly state: 'absent' | 'pulling' | 'present' | 'failed'
  /** Why it failed. */
  readonly message?: string
  readonly progress?: { readonly doneBytes: number; readonly totalBytes: number }
}

/** The containers of one machine. Verbs are idempotent, keyed by our ids, and never wait for slow work: `observe` shows its progress. */
export interface ComputeDriver extends Audited {
  /** Sentences naming what the host lacks to run containers; empty when it can. */
  missing(signal: AbortSignal): Promise<readonly string[]>
  /**
   * Makes the folder of the host for a replica's own socket, which the cloud's account may write: before that is made, and
   * so before `apply`. Goes with `remove`.
   */
  prepare(id: string, signal: AbortSignal): Promise<void>
  /** Keeps the wish and works towards it, also while the cloud is away. It may come before its network's plan: the container is made as far as can be, and starts once that is in force. Fields other than power, cpu and memory of a running attempt are used at its next start. */
  apply(wish: ContainerWish, signal: AbortSignal): Promise<void>
  observe(id: string, signal: AbortSignal): Promise<SeenContainer | undefined>
  /** Every container of ours, orphans too. */
  list(signal: AbortSignal): Promise<readonly SeenContainer[]>
  /** Forgets the wish, stops the container within its grace and removes it. Fine when it is not there. Done when observe gives undefined. */
  remove(id: string, signal: AbortSignal): Promise<void>
  /** Makes a volume, or has it grow. */
  applyVolume(wish: VolumeWish, signal: AbortSignal): Promise<void>
  observeVolume(volume: string, signal: AbortSignal): Promise<SeenVolume | undefined>
  /** Removes a volume and what is in it; refused `conflict` while a container or a copy needs it. */
  removeVolume(volume: string, signal: AbortSignal): Promise<void>
  volumes(signal: AbortSignal): Promise<readonly string[]>
  observeImage(wish: ImageWish, signal: AbortSignal): Promise<SeenImage>
  /** Begins to fetch it; fine when it is there or on its way. */
  fetchImage(wish: ImageWish, signal: AbortSignal): Promise<void>
  samples(signal: AbortSignal): Promise<readonly Sample[]>
  logs(
    id: string,
    how: { follow?: boolean; tail?: number; after?: string; sinceMs?: number },
    signal: AbortSignal,
  ): AsyncIterable<LogEntry>
  /** A command in the running container. Without a tty the stream's output is stdout and stderr together; `exitCode` resolves when it ends. */
  exec(
    id: string,
    how: {
      command: readonly string[]
      tty: boolean
      env?: Readonly<Record<string, string>>
      width?: number
      height?: number
    },
    signal: AbortSignal,
  ): Promise<ExecSession>
  /** Ends (and must be asked again, after a `list`) when the connection breaks. */
  events(signal: AbortSignal): AsyncIterable<ContainerEvent>
  /** Removes every container and volume of ours; for `down --purge` and tests. */
  purge(signal: AbortSignal): Promise<void>
}

export type ExecSession = {
  readonly stream: Duplex
  readonly exitCode: Promise<number>
  resize(width: number, height: number): Promise<void>
}
