import type { HostPlan, VpcPlan } from '#cloud/network/network.driver.ts'
import { type Item, itemsInside, itemsOnHost } from './links.ts'
import { peeringLink, routerLink } from './names.ts'

/** All that `ip` is to show of a VPC whose links are all there: while it stays the same, so may all of it. */
export type Shape = {
  readonly inside: readonly Item[]
  readonly onHost: readonly Item[]
  /** Links that plans have, and others than a plan's own make. */
  readonly peerings: readonly string[]
  readonly attachments: ReadonlySet<string>
}

export function shapeOf(plan: VpcPlan, host: HostPlan, uplink: string): Shape {
  const peerings = (plan.peerings ?? []).map((it) => peeringLink(it.id))
  const links = [...plan.attachments.map((it) => routerLink(it.id)), ...peerings]
  return {
    inside: itemsInside(plan, host, new Set(links)),
    onHost: itemsOnHost(plan, uplink),
    peerings,
    attachments: new Set(plan.attachments.map((it) => it.id)),
  }
}

/** What `ip` has to be told so that one shape becomes another. */
export type Growth = { readonly inside: readonly string[]; readonly onHost: readonly string[] }

/**
 * Pure: how a shape grew. What hangs on the link of a new attachment is left out, since it is made with that link.
 * Undefined where anything went or is another now, where a peering came, or where something new hangs on a link that may be
 * there already: the router has to be looked at for these.
 */
export function growthOf(before: Shape, now: Shape): Growth | undefined {
  if (before.peerings.join() !== now.peerings.join()) return undefined
  const inside = added(before.inside, now.inside)
  const onHost = added(before.onHost, now.onHost)
  if (!inside || !onHost) return undefined
  const own = inside.filter((it) => it.of === undefined)
  const ofKnown = inside.some((it) => it.of !== undefined && before.attachments.has(it.of))
  return ofKnown ? undefined : { inside: own.map((it) => it.set), onHost: onHost.map((it) => it.set) }
}

/** The items that are new; undefined when one of before is not there any more. */
function added(before: readonly Item[], now: readonly Item[]): Item[] | undefined {
  const had = new Set(before.map((it) => it.set))
  const has = new Set(now.map((it) => it.set))
  return before.every((it) => has.has(it.set)) ? now.filter((it) => !had.has(it.set)) : undefined
}
