import type { Difference } from '#cloud/observe/finding.driver.ts'
import { CommandFailed } from '#lib/command.ts'
import { runIn } from './run.ts'

const ON = ['ipv4/ip_forward', 'ipv4/conf/all/proxy_arp', 'ipv6/conf/all/forwarding']
const OFF = [
  'ipv4/conf/all/rp_filter',
  'ipv4/conf/default/rp_filter',
  'ipv4/conf/all/send_redirects',
  'ipv4/conf/default/send_redirects',
  'ipv4/conf/all/accept_redirects',
  'ipv4/conf/default/accept_redirects',
  'ipv6/conf/all/disable_ipv6',
  'ipv6/conf/default/disable_ipv6',
  'ipv6/conf/all/accept_ra',
  'ipv6/conf/default/accept_ra',
  'ipv6/conf/all/accept_redirects',
  'ipv6/conf/default/accept_redirects',
  // A flow that was cut must not come back from its middle, in the direction that is still allowed.
  'netfilter/nf_conntrack_tcp_loose',
]
const FLOWS = 'netfilter/nf_conntrack_count'
const FOLDER = '/proc/sys/net/'

const write = (
  namespace: string,
  names: readonly string[],
  value: string,
  signal: AbortSignal,
): Promise<string> => runIn(namespace, ['tee', ...names.map((it) => FOLDER + it)], { signal, input: value })

/** The kernel's settings for a router; made before its uplink, so that one without uplink may lack them. */
export const makeSettings = async (namespace: string, signal: AbortSignal): Promise<void> => {
  await Promise.all([write(namespace, ON, '1', signal), write(namespace, OFF, '0', signal)])
}

/** The kernel's settings of a namespace by name, and how many flows it tracks. */
export type SeenSettings = { readonly values: ReadonlyMap<string, string>; readonly flows: number }

/** Reads what `grep -H` prints of them. */
export function parseSettings(text: string): SeenSettings {
  const values = new Map(
    text.split('\n').flatMap((line) => {
      const [, name, value = ''] = /^\/proc\/sys\/net\/([^:]+):(.*)$/.exec(line) ?? []
      return name === undefined ? [] : [[name, value] as const]
    }),
  )
  return { values, flows: Number(values.get(FLOWS) ?? 0) }
}

/** Looks at a router's settings; undefined when its namespace is not there. */
export async function lookAtSettings(
  namespace: string,
  signal: AbortSignal,
): Promise<SeenSettings | undefined> {
  const files = [...ON, ...OFF, FLOWS].map((it) => FOLDER + it)
  try {
    return parseSettings(await runIn(namespace, ['grep', '-H', '', ...files], { signal }))
  } catch (error) {
    if (!(error instanceof CommandFailed) || error.missing) throw error
    // A kernel without one of them has printed the others.
    return error.stdout ? parseSettings(error.stdout) : undefined
  }
}

/** The settings that are not what a router's are; one that the kernel does not have is none. */
export const settingsDrift = ({ values }: SeenSettings): Difference[] =>
  [...ON.map((it) => [it, '1'] as const), ...OFF.map((it) => [it, '0'] as const)].flatMap(
    ([name, wanted]) => {
      const value = values.get(name)
      if (value === undefined || value === wanted) return []
      const detail = `setting net.${name.replaceAll('/', '.')} is ${value}, not ${wanted}`
      return [{ what: 'drift' as const, thing: 'setting' as const, detail }]
    },
  )
