import type { Draft } from '#engine/draft.ts'
import type { Claim } from '#engine/kind.ts'
import type { Picker } from '#engine/pick.ts'
import { PUBLISHED_PORTS_QUOTA, type Quotas } from '#cloud/identity/tenant.kind.ts'
import type { NetworkPromise } from '#cloud/network/promises.driver.ts'
import { CloudError } from '#lib/errors.ts'
import { type Port, type PortRange, PUBLISHED_PORTS_DEFAULT } from '#lib/ports.ts'
import type { Static } from 'typebox'
import type { Caller } from './access.ts'

/** What an operator sets once for an installation; ranges are checked at start against each other and the host's routes. */
export type Settings = {
  /** Uplinks and fabric addresses; a /12 by default. Its first half holds uplinks, its second attachments. */
  readonly fabric: string
  /** Host address of the VPCs' resolver. */
  readonly resolver: string
  /** External addresses until an administrator configures a pool; masqueraded, since nobody outside routes them. */
  readonly externalCidr: string
  readonly externalGateway: string
  /** Ports of the host that workloads may be reached by. */
  readonly publishedPorts: PortRange
  /** Networks of the host that VPCs may reach all the same. */
  readonly allowedNetworks: readonly string[]
  /** Where the APIs are reached on this machine itself, in plain HTTP. */
  readonly api: { readonly address: string; readonly port: number }
  /** Port of this machine that the edge speaks TLS on. */
  readonly edgePort: number
  /** How long a replica that is going may still answer what it was asked before. */
  readonly drainSeconds: number
  /** Networks of the host that no subnet may overlap, where VPCs have no address space of their own. */
  readonly hostNetworks: readonly string[]
  /** This machine, as it is told to workloads. */
  readonly machine: { readonly hostname: string; readonly cpus: number }
  readonly quotas: Static<typeof Quotas>
  /** Quotas of a tenant that a user makes; those above are of one that an administrator makes. */
  readonly ownQuotas: Static<typeof Quotas>
  /** Whether people may make accounts for themselves. */
  readonly registration: boolean
  /** How much is asked at most in thecloud's dialect: of one credential (or address without one), and of the operations that take passwords by one address. 0: no limit. */
  readonly rates: {
    readonly perSecond: number
    readonly burst: number
    readonly loginsPerMinute: number
  }
  readonly replica: {
    readonly cpuMillicores: number
    readonly memoryMib: number
    readonly pidsMax: number
    readonly stopGraceSeconds: number
  }
}

const QUOTAS: Settings['quotas'] = {
  vpcs: 50,
  subnets: 200,
  workloads: 500,
  replicas: 1000,
  cpuMillicores: 2_000_000,
  memoryMib: 2_097_152,
  externalAddresses: 100,
  publishedPorts: PUBLISHED_PORTS_QUOTA,
}

export const DEFAULT_SETTINGS: Settings = {
  fabric: '100.112.0.0/12',
  resolver: '100.112.0.1',
  externalCidr: '100.64.0.0/16',
  externalGateway: '100.64.0.1',
  publishedPorts: PUBLISHED_PORTS_DEFAULT,
  allowedNetworks: [],
  api: { address: '127.0.0.1', port: 8080 },
  edgePort: 443,
  drainSeconds: 15,
  hostNetworks: [],
  machine: { hostname: 'localhost', cpus: 1 },
  quotas: QUOTAS,
  ownQuotas: { ...QUOTAS, workloads: 10, cpuMillicores: 8000, memoryMib: 16_384 },
  registration: true,
  rates: { perSecond: 100, burst: 200, loginsPerMinute: 5 },
  replica: { cpuMillicores: 1000, memoryMib: 512, pidsMax: 512, stopGraceSeconds: 10 },
}

/** What a verb works with: one commit in the making, on behalf of one caller. */
export type VerbContext = {
  readonly draft: Draft
  readonly caller: Caller
  readonly settings: Settings
  readonly pick: Picker
  /** Ports that programs of the host listen on, asked of it now; `unavailable` while it does not answer. */
  readonly listening: () => Promise<readonly Port[]>
  /** What the host's network promises. */
  readonly promises: ReadonlySet<NetworkPromise>
}

/** Throws `unsupported`, with the reason, when the host's network does not promise what `what` needs. */
export function needPromise(
  { promises }: Pick<VerbContext, 'promises'>,
  promise: NetworkPromise,
  what: string,
  field?: string,
): void {
  if (promises.has(promise)) return
  const text = `Docker's own bridges, the network of this installation, cannot have ${what}; its network must be linux for that`
  throw new CloudError('unsupported', text, field === undefined ? {} : { field })
}

/** The pool that counts what a tenant uses of one thing. */
export const quotaPool = (tenant: string, what: keyof Static<typeof Quotas>): string =>
  `quota:${tenant}:${what}`

const QUOTA_NAMES: Record<keyof Static<typeof Quotas>, string> = {
  vpcs: 'VPCs',
  subnets: 'subnets',
  workloads: 'workloads',
  replicas: 'replicas',
  cpuMillicores: 'CPU',
  memoryMib: 'memory',
  externalAddresses: 'external addresses',
  publishedPorts: 'published ports',
}

/** An amount against the tenant's quota until `owner` is asked to go. */
export const quotaClaim = (
  tenant: string,
  what: keyof Static<typeof Quotas>,
  owner: string,
  amount: number,
): Claim => ({
  pool: quotaPool(tenant, what),
  value: owner,
  ends: 'deletion',
  amount,
  refusal: `The quota for ${QUOTA_NAMES[what]} is used up; an administrator can raise it`,
})

/** Counts an amount against the tenant's quota until `owner` is asked to go. */
export function useQuota(
  draft: Draft,
  tenant: string,
  what: keyof Static<typeof Quotas>,
  owner: string,
  amount = 1,
): void {
  draft.claim(quotaClaim(tenant, what, owner, amount), owner)
}
