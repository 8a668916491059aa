import { readFile } from 'node:fs/promises'
import { CONTAINERS_LINK } from '#cloud/network/network.driver.ts'
import type { Real } from './plan.ts'

const IPV6_GROUPS = 8

/** What the network namespace of a running container shows, of the kernel's files for its process. */
const shown = (it: Pick<Real, 'pid'>, file: 'dev' | 'if_inet6'): Promise<string | undefined> =>
  readFile(`/proc/${it.pid}/net/${file}`, 'utf8').catch(() => undefined)

/** True when the process is still the container's, and no other that got its number. */
export const isOf = async (it: Real): Promise<boolean> =>
  (await readFile(`/proc/${it.pid}/cgroup`, 'utf8').catch(() => '')).includes(it.runtimeId)

/** True when the container has its link, or is not to be told about: it has just ended. */
export async function hasLink(it: Real): Promise<boolean> {
  const text = await shown(it, 'dev')
  return text === undefined || text.includes(` ${CONTAINERS_LINK}:`) || !(await isOf(it))
}

/** True when the container has its link and IPv6 on it, but not this address. */
export async function lacksIpv6(it: Real, address6: string): Promise<boolean> {
  const text = (await shown(it, 'if_inet6')) ?? ''
  const there = addressesOn(CONTAINERS_LINK, text)
  return there.length > 0 && !there.includes(digitsOf(address6)) && (await isOf(it))
}

/** Pure: the addresses of a link, each as 32 digits, of what /proc/net/if_inet6 says. */
export const addressesOn = (link: string, text: string): string[] =>
  text.split('\n').flatMap((line) => {
    const [address = '', , , , , name] = line.trim().split(/\s+/)
    return name === link ? [address] : []
  })

/** Pure: an IPv6 address as 32 hexadecimal digits. */
export function digitsOf(address: string): string {
  const [front = [], back = []] = address.split('::').map((it) => (it === '' ? [] : it.split(':')))
  const zeros = Array.from({ length: IPV6_GROUPS - front.length - back.length }, () => '0')
  return [...front, ...zeros, ...back].map((it) => it.padStart(4, '0')).join('')
}
