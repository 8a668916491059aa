import type { NetworkCreateOptions } from 'dockerode'
import type { VpcPlan } from '#cloud/network/network.driver.ts'
import { cidr, formatIpv4, overlaps, sizeOf } from '#lib/cidr.ts'
import { LABEL, networkName } from './container.ts'

/** Each VPC's way out is a network of this size, of the fabric's second half. */
const WAY_OUT_PREFIX = 24

/** A network of Docker's as a plan wants it, or as Docker has it. */
export type Bridge = {
  readonly name: string
  readonly vpc: string
  /** Absent: it is the VPC's way out. */
  readonly subnet?: string
  readonly cidr: string
  readonly gateway: string
  /** Closed: nothing goes in or out but between its members. */
  readonly internal: boolean
}

export const wayOutName = (instance: string, vpc: string): string => `${instance}-${vpc}-out`

/** The range of a VPC's way out; undefined when the fabric has no room for it. */
export function wayOutRange(fabric: string, index: number): { cidr: string; gateway: string } | undefined {
  const range = cidr(fabric)
  const half = sizeOf(range) / 2
  const size = 2 ** (32 - WAY_OUT_PREFIX)
  if ((index + 1) * size > half) return undefined
  const base = range.base + half + index * size
  return { cidr: `${formatIpv4(base)}/${WAY_OUT_PREFIX}`, gateway: formatIpv4(base + 1) }
}

/** Ids of the attachments that are given a way out. */
export const withWayOut = (plan: VpcPlan): string[] =>
  plan.internet ? plan.attachments.filter((it) => it.egress !== undefined).map((it) => it.id) : []

/** Pure: the networks of Docker that a plan wants. */
export function bridgesOf(instance: string, plan: VpcPlan, fabric: string): Bridge[] {
  const { vpc } = plan
  const out = withWayOut(plan).length ? wayOutRange(fabric, plan.index) : undefined
  return [
    ...plan.subnets.map((it) => ({
      name: networkName(instance, it.id),
      vpc,
      subnet: it.id,
      cidr: it.cidr,
      gateway: it.gateway,
      // The way out is another network, so that each machine has it or not.
      internal: true,
    })),
    ...(out ? [{ name: wayOutName(instance, vpc), vpc, ...out, internal: false }] : []),
  ]
}

export const bridgeOptions = (instance: string, owner: string, it: Bridge): NetworkCreateOptions => ({
  Name: it.name,
  CheckDuplicate: true,
  Driver: 'bridge',
  Internal: it.internal,
  EnableIPv6: false,
  Labels: {
    [LABEL.instance]: instance,
    [LABEL.owner]: owner,
    [LABEL.vpc]: it.vpc,
    ...(it.subnet === undefined ? {} : { [LABEL.subnet]: it.subnet }),
  },
  IPAM: { Driver: 'default', Config: [{ Subnet: it.cidr, Gateway: it.gateway }] },
})

/**
 * Pure: why Docker's bridges cannot do what a plan asks, undefined when they can. The verbs refuse the same before it is
 * committed; this is for records that were made under another driver, and for a cloud that is mistaken.
 */
export function beyondBridges(plan: VpcPlan, others: readonly VpcPlan[], fabric: string): string | undefined {
  if (plan.subnets.length > 1) return 'a VPC has one subnet: Docker does not route between its networks'
  if (plan.subnets.some((it) => it.routes)) return 'there are no route tables: Docker has none'
  if (plan.attachments.some((it) => it.groups.length))
    return 'there are no security groups: they need rules in the kernel'
  if (plan.balancers?.length) return 'there are no load balancers: they need rules in the kernel'
  if (plan.peerings?.length) return 'there are no peerings: Docker does not route between its networks'
  if (plan.published?.length) return 'there are no published ports: they need rules of the host'
  if (
    plan.vips.some((it) => it.external !== undefined) ||
    plan.attachments.some((it) => it.elastic !== undefined)
  )
    return 'there are no external addresses: they need routes and rules of the host'
  if (plan.internet && !wayOutRange(fabric, plan.index))
    return `the range ${fabric} has no room for the way out of another VPC`
  const theirs = others.filter((it) => it.vpc !== plan.vpc).flatMap((it) => it.subnets)
  for (const it of plan.subnets) {
    if (overlaps(cidr(it.cidr), cidr(fabric))) return `${it.cidr} overlaps the platform's own range ${fabric}`
    if (theirs.some((other) => overlaps(cidr(other.cidr), cidr(it.cidr))))
      return `${it.cidr} is used by another VPC: Docker's networks do not overlap`
  }
  return undefined
}
