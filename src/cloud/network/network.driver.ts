import type { Audited, Difference } from '#cloud/observe/finding.driver.ts'
import type { Port } from '#lib/ports.ts'
import type { NetworkPromise } from './promises.driver.ts'

/** The address every workload's resolv.conf names; translated in the VPC to the edge's resolver. */
export const VPC_DNS_ADDRESS = '169.254.169.253'
/** The name of a container's link in its own namespace: the one Docker gives to the first. */
export const CONTAINERS_LINK = 'eth0'

export type PlannedSubnet = {
  readonly id: string
  readonly cidr: string
  readonly gateway: string
  /** Its /64. */
  readonly cidr6: string
  /** Routes of its table; undefined means everything outside the VPC goes to the uplink. */
  readonly routes?: readonly PlannedRoute[]
}

export type PlannedRoute = {
  readonly cidr: string
  /**
   * Out by the uplink, each machine under its own `egress`; dropped; to a machine of the VPC; out by the uplink, all under
   * one address; into the VPC behind a peering.
   */
  readonly target:
    | 'internet'
    | 'blackhole'
    | { readonly address: string }
    | { readonly nat: string }
    | { readonly peering: string }
}

/** A link to the router of another VPC on this host, made when both are there. */
export type PlannedPeering = {
  /** The same in the plans of both. */
  readonly id: string
  /** The other VPC. */
  readonly vpc: string
  /** Its ranges: nothing else comes by the link. Nothing but this VPC's own subnets is reached by it. */
  readonly ranges: readonly string[]
}

/** One container's or machine's place in a VPC. */
export type Attachment = {
  /** Id of the replica. */
  readonly id: string
  readonly subnet: string
  readonly address: string
  readonly address6: string
  /** Locally administered, derived from the address. */
  readonly mac: string
  /** Unique host-reachable address, translated 1:1 in the VPC; for the platform alone. */
  readonly fabric: string
  /** The external address its outbound connections leave by; absent: no way out. */
  readonly egress?: string
  /** An external address translated 1:1 to it, for everything that its security groups let. */
  readonly elastic?: string
  /** Security groups it is a member of; none: everything is allowed. */
  readonly groups: readonly string[]
}

/** A stable address in front of attachments: `address:port` is balanced over `backends` at the same port. */
export type PlannedVip = {
  /** Id of the workload. */
  readonly id: string
  readonly subnet: string
  readonly address: string
  readonly address6: string
  readonly ports: readonly { readonly protocol: 'tcp' | 'udp'; readonly port: number }[]
  /** Ids of the attachments that are ready. */
  readonly backends: readonly string[]
  /** External address translated to the VIP, for `ports` only. */
  readonly external?: string
}

/** A port of the host that leads to attachments in turn, at a port of theirs; with none of them ready it refuses. */
export type PlannedPort = {
  /** Id of the workload. */
  readonly id: string
  readonly protocol: 'tcp' | 'udp'
  /** On the host. Where the plans of two VPCs have it, which is so for a moment only, it is of the one applied last. */
  readonly host: number
  readonly container: number
  /** Ids of the attachments that are ready. */
  readonly backends: readonly string[]
}

/** Ports of the edge for load balancers, at the resolver's address: each has one. */
export const BALANCER_PORTS = { from: 20_000, to: 28_191 } as const

/** A load balancer: TCP to `address:port` goes to the edge, which balances. Who calls is let by its own security groups, to this address; targets let it by theirs, as if it called from this address. Peered VPCs reach it as they do machines. */
export type PlannedBalancer = {
  readonly id: string
  readonly subnet: string
  readonly address: string
  readonly port: number
  /** Port of the edge, within BALANCER_PORTS. */
  readonly at: number
}

export type PlannedRule = {
  readonly direction: 'ingress' | 'egress'
  readonly protocol: 'tcp' | 'udp' | 'icmp' | 'any'
  readonly ports?: { readonly from: number; readonly to: number }
  /** A CIDR of either family, another group, or anyone. */
  readonly peer: { readonly cidr: string } | { readonly group: string } | 'any'
}
export type PlannedGroup = { readonly id: string; readonly rules: readonly PlannedRule[] }

/** Everything one VPC's router must do: derived whole by a pure function, compared with what is there, applied. */
export type VpcPlan = {
  readonly vpc: string
  readonly tenant: string
  /** Moves with what it was made from; the driver refuses one older than what it holds (`conflict`, lost_race). */
  readonly generation: number
  readonly index: number
  readonly internet: boolean
  readonly range6: string
  /** The two ends of its /31 transit network. */
  readonly uplink: { readonly host: string; readonly vpc: string }
  readonly subnets: readonly PlannedSubnet[]
  readonly attachments: readonly Attachment[]
  readonly vips: readonly PlannedVip[]
  readonly groups: readonly PlannedGroup[]
  /** Absent: none. */
  readonly peerings?: readonly PlannedPeering[]
  /** Absent: none. */
  readonly published?: readonly PlannedPort[]
  /** Absent: none. */
  readonly balancers?: readonly PlannedBalancer[]
}

/** What all VPCs of a host share. */
export type HostPlan = {
  readonly generation: number
  /** Uplinks and fabric addresses; nothing else on the host may use it. */
  readonly fabric: string
  /** Host address of the edge's resolver, inside `fabric`; the driver keeps it on the loopback link. */
  readonly resolver: string
  /**
   * External addresses. `masquerade`: the pool is the built-in one that nobody outside routes, so what leaves the host
   * takes the host's own address.
   */
  readonly external: readonly { readonly cidr: string; readonly masquerade: boolean }[]
  /** Networks of the host that VPCs may reach although they are the host's own. */
  readonly allowed: readonly string[]
}

export type SeenVpc = {
  readonly vpc: string
  /** Generation of the plan that is in force; undefined for one that no plan is held for (an orphan). */
  readonly generation: number | undefined
  /** Ids of attachments in the plan that is in force. */
  readonly attachments: readonly string[]
  /** What differs from the plan; empty when nothing does. */
  readonly drift: readonly Difference[]
}

/** The routers of one machine. Idempotent, keyed by our ids; one apply is atomic for packets. */
export interface NetworkDriver extends Audited {
  /** What it promises. A plan that needs more is refused `unsupported`, with the reason. */
  readonly promises: readonly NetworkPromise[]
  /** Sentences naming what the host lacks for VPCs; empty when it can do everything. */
  missing(signal: AbortSignal): Promise<readonly string[]>
  /** Every port that a program of the host listens on, at whatever address. */
  listening(signal: AbortSignal): Promise<readonly Port[]>
  applyHost(plan: HostPlan, signal: AbortSignal): Promise<void>
  apply(plan: VpcPlan, signal: AbortSignal): Promise<void>
  observe(vpc: string, signal: AbortSignal): Promise<SeenVpc | undefined>
  /** Everything of ours on the host, orphans too, each compared with its plan. */
  list(signal: AbortSignal): Promise<readonly SeenVpc[]>
  /** Removes the VPC's namespace, links, rules, routes and its plan. Fine when it is not there. */
  remove(vpc: string, signal: AbortSignal): Promise<void>
  /** Removes all VPCs and the host's own part; for `down --purge` and tests. */
  purge(signal: AbortSignal): Promise<void>
}
