import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const MARK = 'ARCUS_NETWORK_SANDBOX'
/** How a program is started so that `enterSandbox` returns in it: the command before it, and its environment. */
export const SANDBOXED = {
  through: ['unshare', '--net', '--mount', '--propagation', 'private', '--'],
  env: { [MARK]: '1' },
} as const

/** Runs a command to its end; throws with what it said when it fails. Tests only: it blocks. */
export function sh(...command: string[]): string {
  const [file = '', ...args] = command
  const { status, stdout, stderr, error } = spawnSync(file, args, { encoding: 'utf8', timeout: 20_000 })
  if (status !== 0) throw new Error(`${command.join(' ')}: ${error?.message ?? stderr}`)
  return stdout
}

/** A command whose failure is fine. */
export function tryTo(...command: string[]): string {
  const [file = '', ...args] = command
  return spawnSync(file, args, { encoding: 'utf8', timeout: 20_000 }).stdout
}

/**
 * Runs this test file again in a network and mount namespace of its own, which plays the host: the real one's links,
 * routes and rules are neither seen nor touched, and nothing is left when it ends. Returns inside it. With `engine` a
 * container engine can be started in it.
 */
export async function enterSandbox(file: string, how: { engine?: boolean } = {}): Promise<void> {
  if (process.env[MARK]) {
    mkdirSync('/run/netns', { recursive: true })
    sh('mount', '-t', 'tmpfs', 'tmpfs', '/run/netns')
    const groups = how.engine ? folder() : undefined
    if (groups) sh('mount', '--rbind', '/sys/fs/cgroup', groups)
    sh('mount', '-t', 'sysfs', 'sysfs', '/sys')
    // Moved, not mounted once more: the folder is removed at the end.
    if (groups) sh('mount', '--move', groups, '/sys/fs/cgroup')
    sh('ip', 'link', 'set', 'lo', 'up')
    return
  }
  mkdirSync('/run/netns', { recursive: true })
  const [command, ...args] = [...SANDBOXED.through, process.execPath, ...process.execArgv, file]
  const child = spawn(command, args, { stdio: 'inherit', env: { ...process.env, ...SANDBOXED.env } })
  const code = await new Promise<number>((resolve) => {
    child.on('error', (error) => {
      console.error(`the sandbox cannot be made, which needs root: ${error.message}`)
      resolve(1)
    })
    child.on('exit', (status) => resolve(status ?? 1))
  })
  process.exit(code)
}

const folders: string[] = []

/** Where something is mounted, by /proc/self/mountinfo. */
const mountPoints = (): string[] =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')

/**
 * Removes a folder of a test. Throws when anything is mounted in it: what is removed through a mount is not the test's
 * own but the machine's.
 */
export function removeFolder(path: string): void {
  const mounted = mountPoints().find((it) => it === path || it.startsWith(`${path}/`))
  if (mounted !== undefined) throw new Error(`${mounted} is still mounted: ${path} is left as it is`)
  rmSync(path, { recursive: true, force: true })
}

/** A folder that is removed when the test process ends. */
export function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'arcus-network-'))
  if (!folders.length) process.on('exit', () => folders.forEach(removeFolder))
  folders.push(path)
  return path
}
