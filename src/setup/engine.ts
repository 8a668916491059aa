import { existsSync, readFileSync, rmSync } from 'node:fs'
import { CloudError, messageOf } from '#lib/errors.ts'
import { request } from '#lib/http.ts'
import { identify } from '#supervise/identity.ts'
import type { Program } from '#supervise/supervisor.ts'
import { commandExists, run, type Say, TOOL_PATH } from './command.ts'

export const ENGINE_SOCKET = '/var/run/docker.sock'
export const ENGINE_PID_FILE = '/var/run/docker.pid'
const PING_SECONDS_MAX = 5
const START_SECONDS_MAX = 90
const STOP_SECONDS_MAX = 60

export const hasSystemd = (): boolean => existsSync('/run/systemd/system')

/** Whether something answers HTTP on a unix socket; any answer will do, or only a success. */
export function answers(
  socketPath: string,
  path: string,
  signal: AbortSignal,
  success = false,
): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = request({ socketPath, path, signal }, (response) => {
      response.resume()
      resolve(!success || response.statusCode === 200)
    })
    asked.once('error', () => resolve(false))
    asked.end()
  })
}

export const engineAnswers = (
  signal: AbortSignal = AbortSignal.timeout(PING_SECONDS_MAX * 1000),
): Promise<boolean> => answers(ENGINE_SOCKET, '/_ping', signal, true)

/** Docker's daemon as a program of ours, where no init system runs it. */
export const ENGINE: Program = {
  name: 'docker',
  argv: ['dockerd'],
  env: { PATH: TOOL_PATH, LANG: 'C.UTF-8' },
  cwd: '/',
  ready: engineAnswers,
  readySecondsMax: START_SECONDS_MAX,
  stopSecondsMax: STOP_SECONDS_MAX,
  firstStartsMax: 1,
  adoptChanged: true,
}

/** Docker refuses to start while its file names any process, be it one that got a dead daemon's number. */
function forgetDeadDaemon(): void {
  if (!existsSync(ENGINE_PID_FILE)) return
  const pid = Number.parseInt(readFileSync(ENGINE_PID_FILE, 'utf8'), 10)
  const command = identify(pid) ? readFileSync(`/proc/${pid}/comm`, 'utf8').trim() : ''
  if (command !== 'dockerd') rmSync(ENGINE_PID_FILE, { force: true })
}

/**
 * Sees to it that a container engine answers: the one that does, the system's, or one of our own by `startOwn`.
 * Refused `unavailable` with the reason when none can run.
 */
export async function ensureEngine(isOurs: boolean, startOwn: () => Promise<void>, say: Say): Promise<void> {
  if (!isOurs && (await engineAnswers())) return
  if (!commandExists('dockerd')) throw new CloudError('unavailable', 'no container engine is installed')
  try {
    if (!isOurs) say('Starting Docker …')
    if (!hasSystemd()) {
      if (!isOurs) forgetDeadDaemon()
      return await startOwn()
    }
    await run(['systemctl', 'start', 'docker.service'], START_SECONDS_MAX)
    if (!(await engineAnswers())) throw new Error('docker.service started and does not answer')
  } catch (error) {
    throw new CloudError('unavailable', `no container engine runs: ${messageOf(error)}`)
  }
}
