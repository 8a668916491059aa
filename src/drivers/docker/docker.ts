import type { Duplex, Readable } from 'node:stream'
import { inspect } from 'node:util'
import Docker from 'dockerode'
import { CloudError, messageOf } from '#lib/errors.ts'
import { Agent } from '#lib/http.ts'

/** How long Docker may take for one answer. Starting a container on a busy machine is the slowest. */
const CALL_MS = 20_000
const START_MS = 90_000
const STOP_SLACK_MS = 30_000
const CONNECTIONS_MAX = 64

export type ContainerInfo = Docker.ContainerInspectInfo
export type ContainerSummary = Docker.ContainerInfo
export type DockerEvent = {
  readonly Action?: string
  readonly timeNano?: number
  readonly Actor?: { readonly ID?: string; readonly Attributes?: Readonly<Record<string, string>> }
}
export type RegistryLogin = {
  readonly serveraddress: string
  readonly username: string
  readonly password: string
}

/** Docker's HTTP status of a refusal, undefined when it was something else. */
export const statusOf = (error: unknown): number | undefined =>
  (error as { statusCode?: number } | undefined)?.statusCode

/** Docker's own words for a refusal, without the frame its client puts around them. */
export const reasonOf = (error: unknown): string => {
  const json = (error as { json?: { message?: unknown } } | undefined)?.json
  if (typeof json?.message === 'string') return json.message
  return messageOf(error)
    .replace(/^\(HTTP code \d+\) [\w /]+ - /, '')
    .trim()
}

/** The client writes out the options of every request for its debug log, also when there is none, and with the agent every connection. */
const untold = (agent: Agent): Agent => Object.assign(agent, { [inspect.custom]: () => 'agent' })

/** For verbs of the client whose types know only some of their forms. */
const asPromise = <T>(answer: unknown): Promise<T> => answer as Promise<T>

/** A command in a container: begun once, with its input and output on one connection. */
export type DockerExec = {
  start(tty: boolean): Promise<Duplex>
  resize(width: number, height: number): Promise<unknown>
  inspect(): Promise<{ readonly Running: boolean; readonly ExitCode: number | null; readonly Pid: number }>
}

/** The few calls of Docker's API that we make, each with a deadline; what is not there is undefined, not an error. */
export type DockerApi = ReturnType<typeof dockerApi>

/** `socketPath` is the socket of the Docker daemon of this machine. */
export function dockerApi(socketPath: string) {
  const agent = untold(new Agent({ keepAlive: true, maxSockets: CONNECTIONS_MAX }))
  // An explicit undefined keeps DOCKER_HOST of the environment from choosing another daemon.
  const options = { socketPath, host: undefined, agent } as unknown as Docker.DockerOptions
  const docker = new Docker(options)
  // A connection of its own for each: what lasts takes none of those that calls share.
  const fresh = new Docker({
    ...options,
    agent: untold(new Agent({ keepAlive: false })),
  } as Docker.DockerOptions)

  /**
   * Turns a lost connection or a missed deadline into `unavailable`; Docker's own refusals pass. The deadline is that of the
   * answer: a stream that was answered with lasts as long as the signal that is given.
   */
  const call = async <T>(
    what: string,
    ms: number,
    ask: (signal: AbortSignal) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> => {
    const late = new AbortController()
    const timer = setTimeout(() => late.abort(), ms)
    try {
      return await ask(signal ? AbortSignal.any([signal, late.signal]) : late.signal)
    } catch (error) {
      if (statusOf(error) !== undefined) throw error
      signal?.throwIfAborted()
      const why = late.signal.aborted ? `no answer within ${ms / 1000} s` : messageOf(error)
      throw new CloudError(
        'unavailable',
        `Docker does not answer at ${socketPath} (${what}: ${why})`,
        {},
        error,
      )
    } finally {
      clearTimeout(timer)
    }
  }
  const ifThere = async <T>(answer: Promise<T>): Promise<T | undefined> => {
    try {
      return await answer
    } catch (error) {
      if (statusOf(error) === 404) return undefined
      throw error
    }
  }

  /** For what may be done or on its way already, which Docker answers with `status`; gone is fine too. */
  const already = async (status: number, answer: Promise<unknown>): Promise<void> => {
    try {
      await ifThere(answer)
    } catch (error) {
      if (statusOf(error) !== status) throw error
    }
  }

  return {
    socketPath,
    /** Asks over a connection of its own, so that a daemon that is going down does not answer. */
    ping: (ms: number) => call('ping', ms, (abortSignal) => asPromise(fresh.ping({ abortSignal } as never))),
    info: () =>
      call('info', CALL_MS, (abortSignal) => asPromise<DockerInfo>(docker.info({ abortSignal } as never))),

    /** The newest version of its API that the daemon speaks. */
    version: async (): Promise<string> =>
      (
        await call('version', CALL_MS, (abortSignal) =>
          asPromise<Docker.DockerVersion>(docker.version({ abortSignal } as never)),
        )
      ).ApiVersion,

    list: (labels: readonly string[]): Promise<ContainerSummary[]> =>
      call('list', CALL_MS, (abortSignal) =>
        docker.listContainers({ all: true, filters: { label: [...labels] }, abortSignal }),
      ),
    inspect: (container: string): Promise<ContainerInfo | undefined> =>
      ifThere(
        call('inspect', CALL_MS, (abortSignal) => docker.getContainer(container).inspect({ abortSignal })),
      ),
    create: async (name: string, body: Docker.ContainerCreateOptions): Promise<string> => {
      // Named apart, since the client would otherwise repeat the body, environment included, in the address.
      const split = (abortSignal: AbortSignal) => ({ _query: { name }, _body: body, abortSignal })
      return (await call('create', CALL_MS, (signal) => docker.createContainer(split(signal) as never))).id
    },
    start: (container: string): Promise<unknown> =>
      already(
        304,
        call('start', START_MS, (abortSignal) => docker.getContainer(container).start({ abortSignal })),
      ),
    /** Asks it to end and kills it after the grace; answers when it has ended. */
    stop: (container: string, graceSeconds: number): Promise<unknown> =>
      already(
        304,
        call('stop', graceSeconds * 1000 + STOP_SLACK_MS, (abortSignal) =>
          docker.getContainer(container).stop({ t: graceSeconds, abortSignal }),
        ),
      ),
    /** Kills it if it runs and removes it, with the anonymous volumes its image declared. */
    remove: (container: string): Promise<unknown> =>
      already(
        409,
        call('remove', START_MS, (abortSignal) =>
          docker.getContainer(container).remove({ force: true, v: true, abortSignal }),
        ),
      ),
    /** Fine when it is frozen already. */
    pause: (container: string): Promise<unknown> =>
      already(
        409,
        call('pause', CALL_MS, (abortSignal) => docker.getContainer(container).pause({ abortSignal })),
      ),
    unpause: (container: string): Promise<unknown> =>
      call('unpause', CALL_MS, (abortSignal) => docker.getContainer(container).unpause({ abortSignal })),
    update: (container: string, limits: object): Promise<unknown> =>
      call('update', CALL_MS, (abortSignal) =>
        asPromise(docker.getContainer(container).update({ ...limits, abortSignal } as never)),
      ),
    stats: (container: string): Promise<Docker.ContainerStats> =>
      call('stats', CALL_MS, (abortSignal) =>
        asPromise<Docker.ContainerStats>(
          docker.getContainer(container).stats({ stream: false, 'one-shot': true, abortSignal } as never),
        ),
      ),

    /** Id of a local image, undefined when it is not here. */
    image: async (reference: string): Promise<string | undefined> =>
      (
        await ifThere(
          call('image', CALL_MS, (abortSignal) =>
            asPromise<{ Id: string }>(docker.getImage(reference).inspect({ abortSignal } as never)),
          ),
        )
      )?.Id,
    /** Ids of every image that is here. */
    imageIds: async (): Promise<ReadonlySet<string>> => {
      const all = await call('images', CALL_MS, (abortSignal) => docker.listImages({ abortSignal }))
      return new Set(all.map((it) => it.Id))
    },
    /** Progress as Docker's JSON lines. Ends when the pull ended; a failure is a line with `error`. */
    pull: (
      reference: string,
      login: RegistryLogin | undefined,
      abortSignal: AbortSignal,
    ): Promise<Readable> =>
      fresh.createImage(login, {
        _query: { fromImage: reference },
        _body: {},
        abortSignal,
      } as never) as unknown as Promise<Readable>,

    networks: (labels: readonly string[]): Promise<Docker.NetworkInspectInfo[]> =>
      call('networks', CALL_MS, (abortSignal) =>
        asPromise<Docker.NetworkInspectInfo[]>(
          docker.listNetworks({ filters: { label: [...labels] }, abortSignal } as never),
        ),
      ),
    createNetwork: (body: Docker.NetworkCreateOptions): Promise<unknown> =>
      call('create network', START_MS, (abortSignal) => docker.createNetwork({ ...body, abortSignal })),
    removeNetwork: (network: string): Promise<unknown> =>
      ifThere(
        call('remove network', START_MS, (abortSignal) => docker.getNetwork(network).remove({ abortSignal })),
      ),
    /** Ids of the containers that are in a network. */
    membersOf: async (network: string): Promise<readonly string[]> => {
      const found = await ifThere(
        call('network', CALL_MS, (abortSignal) =>
          asPromise<Docker.NetworkInspectInfo>(docker.getNetwork(network).inspect({ abortSignal } as never)),
        ),
      )
      return Object.keys(found?.Containers ?? {})
    },
    /** Fine when it is in the network already. */
    connectNetwork: (network: string, container: string): Promise<unknown> =>
      already(
        403,
        call('connect network', CALL_MS, (abortSignal) =>
          asPromise(docker.getNetwork(network).connect({ Container: container, abortSignal } as never)),
        ),
      ),
    /** Fine when the container is not in it, or not there at all. */
    disconnectNetwork: (network: string, container: string): Promise<unknown> =>
      already(
        403,
        call('disconnect network', CALL_MS, (abortSignal) =>
          asPromise(
            docker
              .getNetwork(network)
              .disconnect({ Container: container, Force: true, abortSignal } as never),
          ),
        ),
      ),

    /** The signal ends it. */
    events: (filters: Record<string, string[]>, signal: AbortSignal): Promise<Readable> =>
      call(
        'events',
        CALL_MS,
        (abortSignal) => asPromise<Readable>(fresh.getEvents({ filters, abortSignal })),
        signal,
      ),
    /** Frames of stdout and stderr (Docker's multiplexed stream); the signal ends it. */
    logs: (container: string, how: LogsHow, signal: AbortSignal): Promise<Readable | undefined> => {
      const path = `/containers/${container}/logs?`
      const options = { stdout: true, stderr: true, timestamps: true, ...how }
      const statusCodes = { 200: true, 404: 'no such container', 500: 'server error' }
      // Past the client's own verb, which reads all logs into memory when it does not follow.
      const dial = (abortSignal: AbortSignal): Promise<Readable> =>
        new Promise((resolve, reject) => {
          const asked = { path, method: 'GET', options, abortSignal, isStream: true, statusCodes }
          fresh.modem.dial(asked as never, (error: unknown, stream: unknown) =>
            error ? reject(error as Error) : resolve(stream as Readable),
          )
        })
      return ifThere(call('logs', CALL_MS, dial, signal))
    },
    createExec: async (container: string, body: Docker.ExecCreateOptions): Promise<DockerExec> => {
      const exec = await call('exec', CALL_MS, (abortSignal) =>
        docker.getContainer(container).exec({ ...body, abortSignal }),
      )
      return {
        start: (tty) =>
          call('start command', START_MS, (abortSignal) =>
            asPromise(exec.start({ hijack: true, stdin: true, Tty: tty, abortSignal } as never)),
          ),
        resize: (width, height) =>
          call('resize', CALL_MS, (abortSignal) =>
            asPromise(exec.resize({ w: width, h: height, abortSignal } as never)),
          ),
        inspect: () =>
          call('command', CALL_MS, (abortSignal) => asPromise(exec.inspect({ abortSignal } as never))),
      }
    },
    close: () => agent.destroy(),
  }
}

export type LogsHow = { readonly tail?: number | 'all'; readonly since?: string; readonly follow?: boolean }
export type DockerInfo = {
  readonly SecurityOptions?: readonly string[]
  readonly OSType?: string
  readonly ServerVersion?: string
  readonly PidsLimit?: boolean
  readonly MemoryLimit?: boolean
  readonly CpuCfsQuota?: boolean
  readonly LiveRestoreEnabled?: boolean
  readonly Driver?: string
  readonly DockerRootDir?: string
  readonly CgroupDriver?: string
}
