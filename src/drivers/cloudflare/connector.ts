import { type ChildProcess, spawn } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import type { Clock } from '#lib/clock.ts'
import { messageOf } from '#lib/errors.ts'
import { readIfThere, writeAtomically } from '#lib/files.ts'
import { createLanes } from '#lib/lanes.ts'
import type { Log } from '#lib/log.ts'
import type { ConnectorDriver } from '#cloud/edge/cloudflare.driver.ts'

const BACKOFF_MS_MIN = 1000
const BACKOFF_MS_MAX = 60_000
/** One that ran so long is started again without a longer pause. */
const STEADY_MS = 60_000
const STOP_MS_MAX = 5000
const LINE_LENGTH_MAX = 300
/** What the program says once Cloudflare's network took a connection. */
const REGISTERED = /Registered tunnel connection/
const BINDING = 'cloudflare connector'

type Seen = Awaited<ReturnType<ConnectorDriver['observe']>>

export type ConnectorOptions = {
  /** Name or path of the `cloudflared` program. */
  readonly program: string
  /** Folders that it is looked for in, as PATH has them. */
  readonly path: string
  /** File that the sealed token is kept in (0600), so that a restart runs it while the cloud is away. */
  readonly file: string
  readonly seal: {
    seal(plain: string, binding: string): string
    open(sealed: string, binding: string): string
  }
  readonly clock: Clock
  readonly log: Log
}

/**
 * Runs `cloudflared` as a child for as long as there is a token, which it gets by its environment alone; what ends is
 * started again with a growing pause.
 */
export async function openConnector(
  options: ConnectorOptions,
): Promise<ConnectorDriver & { close(): Promise<void> }> {
  const { program, file, seal, clock, log } = options
  let running:
    | { readonly token: string; readonly stop: AbortController; readonly done: Promise<void> }
    | undefined
  let seen: Seen = { state: 'absent' }

  /** One life of the program. */
  async function live(token: string, signal: AbortSignal): Promise<void> {
    const child = spawn(program, ['tunnel', '--no-autoupdate', 'run'], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { PATH: options.path, TUNNEL_TOKEN: token },
    })
    let last = ''
    createInterface({ input: child.stderr }).on('line', (line) => {
      last = line.replaceAll(token, '…').slice(0, LINE_LENGTH_MAX)
      if (REGISTERED.test(line)) seen = { state: 'running' }
    })
    const ended = new AbortController()
    const stop = (): void => void end(child, ended.signal)
    signal.addEventListener('abort', stop, { once: true })
    const why = await new Promise<string>((resolve) => {
      child.once('error', (error: NodeJS.ErrnoException) =>
        resolve(
          error.code === 'ENOENT'
            ? `${program} is not on this machine: install it, or remove Cloudflare's access from the provider configuration`
            : messageOf(error),
        ),
      )
      child.once('exit', (code, by) => resolve(`${program} ended with ${code ?? by}: ${last}`))
    })
    ended.abort()
    signal.removeEventListener('abort', stop)
    if (signal.aborted) return
    seen = { state: 'failed', message: why }
    log.warn('connector ended', { reason: why })
  }

  async function end(child: ChildProcess, ended: AbortSignal): Promise<void> {
    child.kill('SIGTERM')
    await clock.sleep(STOP_MS_MAX, ended).catch(() => {})
    if (!ended.aborted) child.kill('SIGKILL')
  }

  async function keep(token: string, signal: AbortSignal): Promise<void> {
    for (let pause = BACKOFF_MS_MIN; !signal.aborted;) {
      seen = seen.state === 'failed' ? seen : { state: 'starting' }
      const since = clock.now()
      await live(token, signal)
      if (signal.aborted) return
      if (clock.now() - since > STEADY_MS) pause = BACKOFF_MS_MIN
      await clock.sleep(pause, signal).catch(() => {})
      pause = Math.min(pause * 2, BACKOFF_MS_MAX)
    }
  }

  async function stop(): Promise<void> {
    const had = running
    running = undefined
    had?.stop.abort()
    await had?.done
    seen = { state: 'absent' }
  }

  function start(token: string): void {
    const controller = new AbortController()
    running = { token, stop: controller, done: keep(token, controller.signal) }
  }

  const kept = await readIfThere(file)
  if (kept !== undefined) {
    try {
      start(seal.open(kept, BINDING))
    } catch (error) {
      log.warn("the connector's token cannot be opened; the cloud sends it again", {
        error: messageOf(error),
      })
    }
  }
  // Every record that it carries asks for it, each by itself: two at once would run it twice, and know of one.
  const inTurn = createLanes()
  return {
    apply: (connector) =>
      inTurn(BINDING, async () => {
        if (connector && connector.token === running?.token) return
        await stop()
        if (!connector) return await rm(file, { force: true })
        await writeAtomically(file, seal.seal(connector.token, BINDING))
        start(connector.token)
      }),
    observe: async () => await Promise.resolve(seen),
    close: () => inTurn(BINDING, stop),
  }
}
