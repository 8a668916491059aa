import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'
import { programFile } from '../program.ts'

const READY_MS_MAX = 30_000
const LOOK_MS = 50

export type CloudProcess = AsyncDisposable & {
  readonly url: string
  readonly pid: number
  readonly admin: { readonly username: string; readonly password: string; readonly token: string }
  /** All it said but the line that says it is ready, which carries the administrator's credentials. */
  said(): string
  end(signal: NodeJS.Signals): Promise<void>
}

/** The cloud's own program with simulated drivers and everything in its log. */
export async function startProcess(data: string): Promise<CloudProcess> {
  const args = ['--data', data, '--listen', '127.0.0.1:0', '--compute', 'simulated', '--network', 'simulated']
  // A sweep asks more than a person would.
  args.push('--request-rate', '0', '--login-rate', '0')
  const child = spawn(process.execPath, [programFile('main'), ...args, '--json', '--log-level', 'debug'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended = once(child, 'exit')
  const chunks: string[] = []
  let out = ''
  child.stderr.on('data', (chunk: Buffer) => chunks.push(chunk.toString('utf8')))
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString('utf8')))
  const readyLine = (): string | undefined => out.split('\n').find((it) => it.includes('"ready":true'))
  for (const until = performance.now() + READY_MS_MAX; readyLine() === undefined; await pause(LOOK_MS)) {
    assert.ok(
      performance.now() < until && child.exitCode === null,
      `the cloud is not ready: ${chunks.join('')}`,
    )
  }
  const line = readyLine() ?? ''
  const { url, admin } = JSON.parse(line) as Pick<CloudProcess, 'url' | 'admin'>
  assert.ok(child.pid)
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal)
    await ended
  }
  return {
    url,
    pid: child.pid,
    admin,
    said: () => `${out.replace(line, '')}${chunks.join('')}`,
    end,
    [Symbol.asyncDispose]: async () => await end('SIGKILL'),
  }
}
