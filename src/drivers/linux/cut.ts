import { randomUUID } from 'node:crypto'
import { rm, writeFile } from 'node:fs/promises'
import { isIPv6 } from 'node:net'
import { join } from 'node:path'
import type { Flow } from './flows.ts'
import { run } from '#lib/command.ts'
import { runIn } from './run.ts'

// For each line conntrack goes through the whole table, some 3 µs a flow, so flows are ended in groups.
const GROUP_MIN = 4
const LINES_MAX = 256

const start = ({ protocol, source }: Flow): string => `-D${isIPv6(source) ? ' -f ipv6' : ''} -p ${protocol}`

const ported = (option: string, port: number | undefined): string =>
  port === undefined ? '' : ` ${option} ${port}`

/** All flows to one service of one machine. */
const ofTarget = (it: Flow): string =>
  `${start(it)} -d ${it.destination} -r ${it.replySource}${ported('--dport', it.port)}${ported('--reply-port-src', it.replyPort)}`

/** All flows of one protocol that a machine began and that are answered to the same address. */
const ofSource = (it: Flow): string => `${start(it)} -s ${it.source} -q ${it.replyDestination}`

/** All flows that differ in the port of the client only, on which no verdict depends. */
const ofPair = (it: Flow): string => `${ofTarget(it)} -s ${it.source} -q ${it.replyDestination}`

/**
 * What `conntrack -D` has to be told to end `gone`, of `all` the flows there are. Where a whole group is to end, the
 * group is told. When too many lines would be left, whole services are cut, those of their clients included that may
 * stay: they connect again, while what may not stay does not.
 */
export function cutLines(all: readonly Flow[], gone: readonly Flow[]): string[] {
  const lines = new Set<string>()
  let left: readonly Flow[] = gone
  for (const group of [ofTarget, ofSource]) {
    const sizes = new Map<string, number>()
    const going = new Map<string, number>()
    for (const it of all) sizes.set(group(it), (sizes.get(group(it)) ?? 0) + 1)
    for (const it of gone) going.set(group(it), (going.get(group(it)) ?? 0) + 1)
    left = left.filter((it) => {
      const line = group(it)
      const count = going.get(line) ?? 0
      if (count < GROUP_MIN || count !== sizes.get(line)) return true
      lines.add(line)
      return false
    })
  }
  const pairs = new Set(left.map(ofPair))
  for (const it of pairs.size > LINES_MAX ? new Set(left.map(ofTarget)) : pairs) lines.add(it)
  return [...lines]
}

/**
 * Ends flows, in a namespace or on the host; each line is what `conntrack -D` would be told, and one that finds nothing
 * is fine. They go through a file of their own in `directory`, since conntrack cannot read a socket, which is what a
 * child's standard input is here.
 */
export async function cut(
  namespace: string | undefined,
  lines: readonly string[],
  directory: string,
  signal: AbortSignal,
): Promise<void> {
  if (!lines.length) return
  const file = join(directory, `cut-${namespace ?? 'host'}-${randomUUID()}`)
  await writeFile(file, `${lines.join('\n')}\n`, { mode: 0o600 })
  try {
    const command = ['conntrack', '-R', file]
    await (namespace ? runIn(namespace, command, { signal }) : run(command, { signal }))
  } finally {
    await rm(file, { force: true })
  }
}
