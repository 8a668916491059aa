import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough, Writable } from 'node:stream'
import type { ReadStream, WriteStream } from 'node:tty'
import { fileURLToPath } from 'node:url'
import { type Clock, systemClock } from '#lib/clock.ts'
import { runCli } from './program.ts'

const ENTRY = fileURLToPath(new URL('cli.ts', import.meta.url))
const RUN_MS = 30_000

export type Ran = { readonly code: number; readonly out: string; readonly err: string }
export type Shell = AsyncDisposable & {
  /** The home directory of this shell's user. */
  readonly home: string
  /** Runs a command line in this process. */
  run(
    args: readonly string[],
    how?: {
      env?: Record<string, string>
      input?: string
      signal?: AbortSignal
      /** Gets all of standard error each time there is more. */
      onErr?: (text: string) => void
      clock?: Clock
    },
  ): Promise<Ran>
  /** Runs the entry as a process of its own; `during` gets its output as it comes and the way to interrupt it once. */
  spawn(
    args: readonly string[],
    how?: {
      env?: Record<string, string>
      input?: string
      during?: (out: string, interrupt: () => boolean) => void
    },
  ): Promise<Ran>
}

function collector(onMore: (text: string) => void = () => {}): { stream: WriteStream; text: () => string } {
  let text = ''
  const stream = new Writable({
    write(chunk: Buffer, _, next) {
      text += chunk.toString()
      onMore(text)
      next()
    },
  })
  return { stream: stream as unknown as WriteStream, text: () => text }
}

/** A user with an empty home and nothing but `env` in the environment. */
export async function shell(env: Record<string, string> = {}): Promise<Shell> {
  const home = await mkdtemp(join(tmpdir(), 'arcus-cli-'))
  return {
    home,
    async run(args, how = {}) {
      const out = collector()
      const err = collector(how.onErr)
      const stdin = new PassThrough()
      stdin.end(how.input ?? '')
      const code = await runCli(args, {
        env: { ...env, ...how.env },
        home,
        adminFile: join(home, 'admin.json'),
        stdin: stdin as unknown as ReadStream,
        stdout: out.stream,
        stderr: err.stream,
        clock: how.clock ?? systemClock,
        signal: how.signal ?? AbortSignal.timeout(RUN_MS),
      })
      return { code, out: out.text(), err: err.text() }
    },
    spawn: (args, how = {}) =>
      new Promise((resolve, reject) => {
        const child = spawn(process.execPath, [ENTRY, ...args], {
          env: { PATH: process.env['PATH'], HOME: home, ...env, ...how.env },
          timeout: RUN_MS,
        })
        let [out, err] = ['', '']
        let interrupted = false
        child.stdout.on('data', (text: Buffer) => {
          out += text.toString()
          how.during?.(out, () => interrupted || (interrupted = child.kill('SIGINT')))
        })
        child.stderr.on('data', (text: Buffer) => (err += text.toString()))
        child.once('error', reject)
        child.once('close', (code) => resolve({ code: code ?? -1, out, err }))
        child.stdin.end(how.input ?? '')
      }),
    async [Symbol.asyncDispose]() {
      await rm(home, { recursive: true, force: true })
    },
  }
}
