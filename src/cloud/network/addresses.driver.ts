import { randomBytes } from 'node:crypto'
import { cidr, formatIpv4, lastOf, parseIpv4, sizeOf } from '#lib/cidr.ts'

/** Where uplinks begin in the fabric range; the addresses before are the platform's own (the resolver). */
const UPLINKS_OFFSET = 256

/** The two ends of a VPC's /31 transit network, from the first half of the fabric range. */
export function uplinkOf(fabric: string, index: number): { host: string; vpc: string } {
  const base = cidr(fabric).base + UPLINKS_OFFSET + 2 * index
  return { host: formatIpv4(base), vpc: formatIpv4(base + 1) }
}

/** The highest VPC index that the fabric range has an uplink for. */
export const vpcIndexMax = (fabric: string): number =>
  Math.min(131_071, (sizeOf(cidr(fabric)) / 2 - UPLINKS_OFFSET) / 2 - 1)

/** The half of the fabric range that attachments take their addresses from. */
export function fabricPool(fabric: string): { base: number; prefix: number } {
  const range = cidr(fabric)
  return { base: range.base + sizeOf(range) / 2, prefix: range.prefix + 1 }
}

/** A random ULA /48 (RFC 4193). */
export function randomRange6(random: (size: number) => Buffer = randomBytes): string {
  const hex = random(5).toString('hex')
  return `fd${hex.slice(0, 2)}:${hex.slice(2, 6)}:${hex.slice(6, 10)}::/48`
}

/** The subnet's /64 within the VPC's /48. */
export const cidr6Of = (range6: string, index6: number): string =>
  `${range6.replace('::/48', '')}:${index6.toString(16)}::/64`

/** The IPv6 address that belongs to an IPv4 address of the subnet: its last 32 bits are that address. */
export function address6Of(range6: string, index6: number, address: string): string {
  const value = parseIpv4(address) ?? 0
  return `${range6.replace('::/48', '')}:${index6.toString(16)}:0:0:${(value >>> 16).toString(16)}:${(value & 0xffff).toString(16)}`
}

/** A locally administered MAC address that belongs to an IPv4 address. */
export const macOf = (address: string): string =>
  ['02', 'ac', ...address.split('.').map((it) => Number(it).toString(16).padStart(2, '0'))].join(':')

/** The last address of a network, as text. */
export const lastAddress = (text: string): string => formatIpv4(lastOf(cidr(text)))
