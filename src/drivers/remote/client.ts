import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type {
  ComputeDriver,
  ContainerEvent,
  LogEntry,
  SeenImage,
  SeenVolume,
} from '#cloud/compute/compute.driver.ts'
import type { NetworkDriver } from '#cloud/network/network.driver.ts'
import type { Finding } from '#cloud/observe/finding.driver.ts'
import { EVERY_PROMISE, type NetworkPromise } from '#cloud/network/promises.driver.ts'
import { CloudError } from '#lib/errors.ts'
import { Agent, request as send } from '#lib/http.ts'
import { linesOf } from '#lib/lines.ts'
import type { Log } from '#lib/log.ts'
import { openExec } from './exec.ts'
import {
  EPOCH_HEADER,
  EXEC,
  type Line,
  PROTOCOL,
  PROTOCOL_HEADER,
  type StreamVerb,
  type Verb,
  deadlineOf,
  speaks,
  unpackError,
} from './protocol.ts'

const CONNECTIONS_MAX = 32
const UPGRADE_MS_MAX = 30_000
/** The agent's own deadline passes first, so that its answer can arrive. */
const SLACK_MS = 5000

export type RemoteDrivers = {
  readonly network: NetworkDriver
  readonly compute: ComputeDriver
  close(): Promise<void>
}

/**
 * The drivers of the machine whose host agent listens at `socket`. It needs no agent to open: while there is none, every
 * verb fails as `unavailable`, and works again as soon as there is one. `epoch` is of the caller's lease: higher at each
 * start, so that a process which was overtaken can change nothing.
 */
export function remoteDrivers(options: {
  readonly socket: string
  readonly epoch: number
  /** Of the network driver that the agent was started with; every one when left out. */
  readonly promises?: readonly NetworkPromise[]
  readonly log: Log
}): RemoteDrivers {
  const { socket: socketPath, epoch, log } = options
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS_MAX })
  const streams = new Agent({ keepAlive: false })
  let protocol: string | undefined
  const headers = { [PROTOCOL_HEADER]: String(PROTOCOL), [EPOCH_HEADER]: String(epoch) }

  const away = (error: unknown): CloudError =>
    new CloudError(
      'unavailable',
      `the host agent does not answer at ${socketPath}: is it running?`,
      {},
      error,
    )

  const exchange = (path: string, body: string, pool: Agent, signal: AbortSignal): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      const how = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }
      const request = send(
        {
          socketPath,
          method: 'POST',
          path: `/${path}`,
          headers: { ...headers, ...how },
          agent: pool,
          signal,
        },
        resolve,
      )
      request.on('error', reject)
      request.end(body)
    })

  /** Once more on a new connection when a kept one ended on the other side just now: every verb can be repeated. */
  const post = async (path: string, args: readonly unknown[], pool: Agent, signal: AbortSignal) => {
    const body = JSON.stringify(args)
    const response = await exchange(path, body, pool, signal)
      .catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') throw error
        return exchange(path, body, streams, signal)
      })
      .catch((error: unknown) => {
        protocol = undefined
        throw signal.aborted ? (signal.reason as Error) : away(error)
      })
    const theirs = String(response.headers[PROTOCOL_HEADER])
    if (theirs !== protocol) {
      if (!speaks(theirs)) {
        response.destroy()
        const message = `the host agent at ${socketPath} speaks version ${theirs} of its protocol, this cloud ${PROTOCOL}: upgrade the older one`
        throw new CloudError('unsupported', message)
      }
      log.info('connected to the host agent', { socket: socketPath, protocol: theirs })
      protocol = theirs
    }
    return response
  }

  const ask = async (verb: Verb, args: readonly unknown[], signal: AbortSignal): Promise<unknown> => {
    const late = AbortSignal.timeout(deadlineOf(verb) + SLACK_MS)
    const limited = AbortSignal.any([signal, late])
    try {
      const response = await post(verb, args, agent, limited)
      let text = ''
      response.setEncoding('utf8')
      for await (const chunk of response as AsyncIterable<string>) text += chunk
      const { result, error } = JSON.parse(text) as { result?: unknown; error?: unknown }
      if (error !== undefined) throw unpackError(error)
      return result ?? undefined
    } catch (error) {
      signal.throwIfAborted()
      if (late.aborted)
        throw new CloudError('unavailable', `the host agent took too long for ${verb}`, {}, error)
      // The connection broke in the middle of an answer.
      if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ECONNRESET')
        throw away(error)
      throw error
    }
  }

  /** Items of a stream; when the connection breaks it throws `unavailable`. */
  async function* follow(
    verb: StreamVerb,
    args: readonly unknown[],
    signal: AbortSignal,
  ): AsyncGenerator<unknown> {
    try {
      const response = await post(verb, args, streams, signal)
      let answer = ''
      for await (const text of linesOf(response)) {
        if (response.statusCode !== 200) {
          answer += text
          continue
        }
        const line = JSON.parse(text) as Line
        if ('error' in line) throw unpackError(line.error)
        if ('end' in line) return
        yield line.item
      }
      if (answer) throw unpackError((JSON.parse(answer) as { error?: unknown }).error)
      throw new CloudError('unavailable', `the connection to the host agent at ${socketPath} broke`)
    } catch (error) {
      if (signal.aborted) return
      if ((error as NodeJS.ErrnoException).code !== undefined && !(error instanceof CloudError))
        throw away(error)
      throw error
    }
  }

  const upgrade = (signal: AbortSignal): Promise<Duplex> =>
    new Promise((resolve, reject) => {
      const how = { connection: 'upgrade', upgrade: EXEC }
      const request = send({
        socketPath,
        method: 'POST',
        path: `/${EXEC}`,
        headers: { ...headers, ...how },
        agent: streams,
        signal,
        timeout: UPGRADE_MS_MAX,
      })
      request.on('upgrade', (_, socket, head) => {
        socket.setTimeout(0)
        if (head.length) socket.unshift(head)
        resolve(socket)
      })
      request.on('response', (response) => {
        response.destroy()
        reject(
          new CloudError(
            'unsupported',
            `the host agent at ${socketPath} does not run commands for this cloud`,
          ),
        )
      })
      request.on('timeout', () => request.destroy(new Error('no answer')))
      request.on('error', (error) => reject(signal.aborted ? (signal.reason as Error) : away(error)))
      request.end()
    })

  const network: NetworkDriver = {
    promises: options.promises ?? EVERY_PROMISE,
    missing: async (signal) => (await ask('network/missing', [], signal)) as readonly string[],
    listening: async (signal) =>
      (await ask('network/listening', [], signal)) as Awaited<ReturnType<NetworkDriver['listening']>>,
    applyHost: async (plan, signal) => void (await ask('network/applyHost', [plan], signal)),
    apply: async (plan, signal) => void (await ask('network/apply', [plan], signal)),
    observe: async (vpc, signal) =>
      (await ask('network/observe', [vpc], signal)) as Awaited<ReturnType<NetworkDriver['observe']>>,
    list: async (signal) =>
      (await ask('network/list', [], signal)) as Awaited<ReturnType<NetworkDriver['list']>>,
    remove: async (vpc, signal) => void (await ask('network/remove', [vpc], signal)),
    purge: async (signal) => void (await ask('network/purge', [], signal)),
    audit: async (signal) => (await ask('network/audit', [], signal)) as readonly Finding[],
    mend: async (signal) => (await ask('network/mend', [], signal)) as readonly Finding[],
  }
  const compute: ComputeDriver = {
    missing: async (signal) => (await ask('compute/missing', [], signal)) as readonly string[],
    prepare: async (id, signal) => void (await ask('compute/prepare', [id], signal)),
    apply: async (wish, signal) => void (await ask('compute/apply', [wish], signal)),
    observe: async (id, signal) =>
      (await ask('compute/observe', [id], signal)) as Awaited<ReturnType<ComputeDriver['observe']>>,
    list: async (signal) =>
      (await ask('compute/list', [], signal)) as Awaited<ReturnType<ComputeDriver['list']>>,
    remove: async (id, signal) => void (await ask('compute/remove', [id], signal)),
    applyVolume: async (wish, signal) => void (await ask('compute/applyVolume', [wish], signal)),
    observeVolume: async (volume, signal) =>
      (await ask('compute/observeVolume', [volume], signal)) as SeenVolume | undefined,
    removeVolume: async (volume, signal) => void (await ask('compute/removeVolume', [volume], signal)),
    volumes: async (signal) => (await ask('compute/volumes', [], signal)) as readonly string[],
    observeImage: async (wish, signal) => (await ask('compute/observeImage', [wish], signal)) as SeenImage,
    fetchImage: async (wish, signal) => void (await ask('compute/fetchImage', [wish], signal)),
    samples: async (signal) =>
      (await ask('compute/samples', [], signal)) as Awaited<ReturnType<ComputeDriver['samples']>>,
    logs: (id, how, signal) => follow('compute/logs', [id, how], signal) as AsyncGenerator<LogEntry>,
    async exec(id, how, signal) {
      const socket = await upgrade(signal)
      try {
        return await openExec(socket, { id, how }, signal)
      } catch (error) {
        socket.destroy()
        throw error
      }
    },
    events: (signal) => follow('compute/events', [], signal) as AsyncGenerator<ContainerEvent>,
    purge: async (signal) => void (await ask('compute/purge', [], signal)),
    audit: async (signal) => (await ask('compute/audit', [], signal)) as readonly Finding[],
    mend: async (signal) => (await ask('compute/mend', [], signal)) as readonly Finding[],
  }
  return {
    network,
    compute,
    close() {
      agent.destroy()
      streams.destroy()
      return Promise.resolve()
    },
  }
}
