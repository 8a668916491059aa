import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { silentLog } from '#lib/log.ts'
import { type RemoteDrivers, remoteDrivers } from '#drivers/remote/client.ts'
import { never } from './bench.ts'
import { programFile } from '../program.ts'
import { until } from './daemon.ts'

export const HOST = programFile('host')

/** A host agent as a process of its own, which tests start, stop and kill, and the cloud's end of its socket. */
export type AgentProcess = AsyncDisposable & {
  readonly drivers: RemoteDrivers
  readonly pid: number | undefined
  /** Ends when it answers. */
  start(): Promise<void>
  stop(signal: NodeJS.Signals): Promise<void>
}

export function agentProcess(how: { folder: string; prefix: string; docker: string }): AgentProcess {
  const socket = join(how.folder, 'agent.sock')
  const data = join(how.folder, 'agent')
  const drivers = remoteDrivers({ socket, epoch: 1, log: silentLog })
  const args = [HOST, '--data', data, '--socket', socket, '--prefix', how.prefix, '--docker', how.docker]
  let child: ChildProcess | undefined
  const stop = async (signal: NodeJS.Signals): Promise<void> => {
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill(signal)
    await ended
  }
  return {
    drivers,
    get pid() {
      return child?.pid
    },
    async start() {
      child = spawn(process.execPath, [...args, '--log-level', 'error'], {
        stdio: ['ignore', 'inherit', 'inherit'],
      })
      const answers = () =>
        drivers.compute.volumes(never).then(
          () => true,
          () => false,
        )
      await until('the agent answers', answers)
    },
    stop,
    async [Symbol.asyncDispose]() {
      await stop('SIGKILL')
      await drivers.close()
    },
  }
}
