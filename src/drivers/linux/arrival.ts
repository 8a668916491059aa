import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, statfsSync } from 'node:fs'
import { type Attachment, CONTAINERS_LINK } from '#cloud/network/network.driver.ts'
import type { Clock } from '#lib/clock.ts'
import { COMMAND_ENV } from '#lib/command.ts'
import { CloudError } from '#lib/errors.ts'
import { canonical, GATEWAY6 } from './links.ts'

/**
 * How long the namespace and the move of the link are waited for, then how long IPv6: the container's runtime switches it
 * on just before the program. Of one that starts beside many others, and of one that runs.
 */
const WAITS = {
  starting: { moveMs: 90_000, ipv6Ms: 20_000 },
  running: { moveMs: 0, ipv6Ms: 1000 },
} as const
/** How often is looked for it: one look takes some microseconds. */
const LOOK_MS = 5
const TRY_PAUSE = { firstMs: 2, factor: 1.4, maxMs: 15 } as const
/** What the kernel says of the file system of namespaces. */
const NSFS_MAGIC = 0x6e73_6673

/** What gives a container its IPv6, in `ip`'s words. */
export const ipv6Lines = ({ address6 }: Attachment): string[] => [
  `addr replace ${address6}/128 dev ${CONTAINERS_LINK} nodad`,
  `route replace default via ${GATEWAY6} dev ${CONTAINERS_LINK}`,
]

/** True when the namespace is mounted at the path, and not only the file that it is mounted on. */
function isNamespace(path: string): boolean {
  try {
    return existsSync(path) && statfsSync(path).type === NSFS_MAGIC
  } catch {
    // It went just now.
    return false
  }
}

/** What a container whose link is on its way, or there, is given its IPv6 by. */
export type Arrival = {
  readonly containerLink: string
  /** Path of its network namespace. */
  readonly namespace: string
  readonly plan: Attachment
  readonly waits: keyof typeof WAITS
}

/**
 * Gives a container its IPv6, whose link Docker moves into the network namespace at this path: address and default route,
 * as soon as the namespace has the link and IPv6. The process that does it waits inside beforehand, so that it is done
 * before the container's program runs, unless this process is held up meanwhile.
 */
export async function giveIpv6(it: Arrival, clock: Clock, signal: AbortSignal): Promise<void> {
  const { containerLink, namespace, plan } = it
  const { moveMs, ipv6Ms } = WAITS[it.waits]
  const since = clock.now()
  const until = async (what: string, isSo: () => boolean): Promise<void> => {
    while (!isSo()) {
      if (clock.now() - since >= moveMs)
        throw new CloudError('unavailable', `${plan.id} has no ${what} to be given IPv6`)
      await clock.sleep(LOOK_MS, signal)
    }
  }
  await until('namespace', () => isNamespace(namespace))
  const command = ['nsenter', `--net=${namespace}`, 'ip', '-6', '-force', '-batch', '-'] as const
  const [file, ...args] = command
  const child = spawn(file, args, { env: COMMAND_ENV, stdio: ['pipe', 'pipe', 'ignore'], signal })
  const ended = once(child, 'close')
  ended.catch(() => {})
  // Its end is seen by what it does not show.
  child.stdin.on('error', () => {})
  try {
    await until('link', () => !existsSync(`/sys/class/net/${containerLink}`))
    await tryUntilThere(child, plan, ipv6Ms, clock, signal)
  } finally {
    child.stdin.end()
    await ended.catch(() => {})
  }
}

/** Says the lines again and again until what the namespace shows is what they make. */
async function tryUntilThere(
  { stdin, stdout }: ChildProcess,
  plan: Attachment,
  limitMs: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const looks = [`addr show dev ${CONTAINERS_LINK}`, 'route show default']
  const lines = [...ipv6Lines(plan), ...looks].join('\n')
  const wanted = [` ${canonical(plan.address6)}/128 `, ` via ${GATEWAY6} `]
  let shown = ''
  stdout?.on('data', (chunk: Buffer) => (shown += chunk.toString()))
  const since = clock.now()
  let pauseMs: number = TRY_PAUSE.firstMs
  while (clock.now() - since < limitMs) {
    stdin?.write(`${lines}\n`)
    await clock.sleep(pauseMs, signal)
    if (wanted.every((it) => shown.includes(it))) return
    shown = ''
    pauseMs = Math.min(pauseMs * TRY_PAUSE.factor, TRY_PAUSE.maxMs)
  }
  throw new CloudError('unavailable', `${plan.id} was not given its IPv6 within ${limitMs / 1000} s`)
}
