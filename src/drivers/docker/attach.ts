import type { Attachment, PlannedSubnet } from '#cloud/network/network.driver.ts'

/** An attachment of a plan that is held, with what a container's side of it needs to know. */
export type HeldAttachment = {
  readonly vpc: string
  readonly plan: Attachment
  readonly subnet: PlannedSubnet
  /** Where the host reaches it; its fabric address when absent. */
  readonly reachedAt?: string
}

/** A VPC of which another plan is held now, in force or not, and the subnets that it has no more. */
export type PlanChange = { readonly vpc: string; readonly gone: readonly string[] }

/** What containers need of the network: the plan of an attachment and the link that carries it. */
export type Links = {
  /** Undefined while no plan with it is held. */
  attachment(id: string): HeldAttachment | undefined
  /** Whether a plan that is held has a subnet. */
  hasSubnet(subnet: string): boolean
  /** Calls `tell` when another plan is held, or none any more, until the function that it gives is called. */
  onPlan(tell: (change: PlanChange) => void): () => void
  /** Ends when the plan that is held of the attachment's VPC is in force; throws when it cannot be. */
  inForce(id: string): Promise<void>
  /**
   * Makes the attachment's link: one end in place in its VPC, the other in the host's namespace, for the container. Gives
   * the name of that other end.
   */
  createLink(id: string): Promise<{ readonly containerLink: string }>
  /** Makes the link anew for the container whose process `pid` is, which runs and has lost it. */
  plugIn(id: string, pid: number): Promise<void>
  /**
   * Gives a container its IPv6, where Docker does not: address and default route, in the network namespace of this path.
   * With one that is `starting` it waits for Docker to make that and to move the link there.
   */
  giveIpv6(id: string, namespace: string, waits: 'starting' | 'running', signal?: AbortSignal): Promise<void>
  /** Fine when it is not there. */
  removeLink(id: string): Promise<void>
  /** Docker has started, or started anew. */
  dockerStarted(): Promise<void>
}
