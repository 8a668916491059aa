import { readdirSync, readFileSync, statSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { VpcPlan } from '#cloud/network/network.driver.ts'
import type { Finding, Repair } from '#cloud/observe/finding.driver.ts'
import { cut, cutLines } from './cut.ts'
import { endsOf, type Flow, readFlows } from './flows.ts'
import { externalsOf, type LinkJson } from './links.ts'
import type { Names } from './names.ts'
import { isPassing, vpcOfFile } from './plans.ts'
import { COMMAND_MS_MAX, PARENT_VARIABLE, run, tolerant } from '#lib/command.ts'

/** What is written and moved into place, or told to a command, is done within this time. */
const FILE_MS_MAX = 60_000
/** A host that tracks more is not searched each time: the flows end by their own timeouts. */
const FLOWS_READ_MAX = 100_000
const FLOWS_COUNT = '/proc/sys/net/netfilter/nf_conntrack_count'

const orphan = (thing: Finding['thing'], detail: string, more: Partial<Finding> = {}): Finding => ({
  what: 'orphan',
  thing,
  detail,
  mend: 'driver',
  ...more,
})

/** Links of ours that no plan has, and whose VPC the list of VPCs does not show as an orphan. */
export function strayHostLinks(
  names: Names,
  plans: readonly VpcPlan[],
  links: readonly LinkJson[],
): LinkJson[] {
  const known = new Set(plans.map((it) => it.vpc))
  const planned = new Set([
    ...plans.map((it) => names.uplink(it.index)),
    ...plans.flatMap((plan) => plan.attachments.map((it) => names.containerLink(it.id))),
  ])
  return links.filter(
    (it) =>
      !planned.has(it.ifname) &&
      (names.isContainerLink(it.ifname) ||
        (names.isUplink(it.ifname) && (it.ifalias === undefined || known.has(it.ifalias)))),
  )
}

/** The addresses by which the host reaches a VPC. */
export const hostAddressesOf = (plan: VpcPlan): string[] => [
  ...plan.attachments.map((it) => it.fabric),
  ...externalsOf(plan),
]

/** What the host tracks; nothing where that is more than is searched. */
export const trackedFlows = async (signal: AbortSignal): Promise<Flow[]> =>
  Number(readText(FLOWS_COUNT) || 0) > FLOWS_READ_MAX ? [] : await readFlows(undefined, signal)

/**
 * Flows that the host still tracks of addresses that were freed. One without any is struck off: what comes to it later is
 * somebody's who tries.
 */
export async function flowRepairs(
  plans: readonly VpcPlan[],
  freed: Set<string>,
  directory: string,
  signal: AbortSignal,
): Promise<Repair[]> {
  if (freed.size) for (const it of plans.flatMap(hostAddressesOf)) freed.delete(it)
  if (!freed.size) return []
  const flows = await trackedFlows(signal)
  if (!flows.length) return []
  const gone = flows.filter((it) => endsOf(it).some((address) => freed.has(address)))
  const still = new Set(gone.flatMap(endsOf))
  for (const it of freed) if (!still.has(it)) freed.delete(it)
  if (!gone.length) return []
  return [
    {
      finding: orphan('flow', `${gone.length} tracked flows of addresses that nobody has any more`),
      fix: (stop) => cut(undefined, cutLines(flows, gone), directory, stop),
    },
  ]
}

/** Files in the folder of plans that a process left which ended in the middle, and plans that cannot be read. */
function fileRepairs(directory: string, known: ReadonlySet<string>, now: number): Repair[] {
  return readdirSync(directory).flatMap((name): Repair[] => {
    const path = join(directory, name)
    const since = statSync(path, { throwIfNoEntry: false })?.mtimeMs
    if (since === undefined) return []
    const vpc = vpcOfFile(name)
    if (vpc !== undefined && !known.has(vpc))
      return [
        {
          finding: orphan('file', `plan ${path} cannot be used`, {
            of: { kind: 'vpc', id: vpc },
            since,
            mend: 'owner',
          }),
        },
      ]
    if (!isPassing(name) || now - since < FILE_MS_MAX) return []
    return [
      {
        finding: orphan('file', `file ${path} was left over`, { since }),
        fix: () => rm(path, { force: true }),
      },
    ]
  })
}

const readText = (path: string): string => {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/** Commands of an agent that is gone, which run longer than one may. */
export function processRepairs(now: number): Repair[] {
  return readdirSync('/proc')
    .filter((it) => /^\d+$/.test(it))
    .flatMap((pid): Repair[] => {
      const mark = readText(`/proc/${pid}/environ`)
        .split('\0')
        .find((it) => it.startsWith(`${PARENT_VARIABLE}=`))
      if (mark === undefined) return []
      const parent = /^PPid:\s+(\d+)$/m.exec(readText(`/proc/${pid}/status`))?.[1]
      const since = statSync(`/proc/${pid}`, { throwIfNoEntry: false })?.ctimeMs
      if (since === undefined || now - since < COMMAND_MS_MAX || mark === `${PARENT_VARIABLE}=${parent}`)
        return []
      const name = readText(`/proc/${pid}/comm`).trim()
      const detail = `process ${pid} (${name}) of a host agent that is gone`
      return [{ finding: orphan('process', detail, { since, mend: { command: `kill ${pid}` } }) }]
    })
}

/** What is left on the host of VPCs, attachments and commands that are gone. */
export async function leftovers(given: {
  readonly names: Names
  readonly directory: string
  /** Addresses that VPCs had and were freed since the start; those without flows are taken out. */
  readonly freed: Set<string>
  /** Asked after the host was looked at, since a plan is held before anything is made of it. */
  readonly plans: () => readonly VpcPlan[]
  readonly links: readonly LinkJson[]
  readonly now: number
  readonly signal: AbortSignal
}): Promise<Repair[]> {
  const { names, directory, freed, links, now, signal } = given
  const plans = given.plans()
  return [
    ...strayHostLinks(names, plans, links).map(({ ifname }) => ({
      finding: orphan('link', `link ${ifname} of nothing that is planned`),
      fix: (stop: AbortSignal) => tolerant(run(['ip', 'link', 'del', ifname], { signal: stop })),
    })),
    ...(await flowRepairs(plans, freed, directory, signal)),
    ...fileRepairs(directory, new Set(plans.map((it) => it.vpc)), now),
    ...processRepairs(now),
  ]
}
