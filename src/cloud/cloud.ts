import type { Static, TSchema } from 'typebox'
import type { Explanation } from '#engine/engine.ts'
import type { Kind } from '#engine/kind.ts'
import type { AnyKind, Resource } from '#engine/resource.ts'
import type { Change, ListQuery, NewRecord, Page, StoredRecord } from '#engine/store.ts'
import type { ExecSession, LogEntry, Sample } from '#cloud/compute/compute.driver.ts'
import type { RegistryCredential } from '#cloud/compute/registry-credential.kind.ts'
import type { Workload } from '#cloud/compute/workload.kind.ts'
import type { Domain } from '#cloud/edge/domain.kind.ts'
import type { Tenant } from '#cloud/identity/tenant.kind.ts'
import type { User } from '#cloud/identity/user.kind.ts'
import type { Provider } from '#cloud/network/provider.kind.ts'
import type { Subnet } from '#cloud/network/subnet.kind.ts'
import type { Vpc } from '#cloud/network/vpc.kind.ts'
import type { Caller, Origin } from './access.ts'

/** How a new resource's name is claimed: in which scope and what a clash says. Each dialect has its own scopes (design §3, Names). */
export type NameClaim = { readonly scope: string; readonly refusal: string }

export type NewWorkload = {
  readonly vpc: string
  readonly subnet: string
  readonly name: string
  readonly labels?: Readonly<Record<string, string>>
  /** Defaults for everything but image as the platform has them. */
  readonly spec: { readonly image: string } & Partial<Omit<Workload['spec'], 'vpc' | 'subnet' | 'image' | 'vip' | 'externalAddress' | 'attempt' | 'change'>>
  /** Give it an external address of its own (needs egress). */
  readonly inbound?: boolean
}

export type WorkloadChange = {
  readonly healing?: boolean
  readonly persistence?: Partial<Workload['spec']['persistence']>
  readonly autoscaling?: Partial<Workload['spec']['autoscaling']>
  readonly image?: string
  readonly env?: Readonly<Record<string, string>>
  readonly cpuMillicores?: number
  readonly memoryMib?: number
  readonly command?: readonly string[]
}

/**
 * What can be done, within one commit. Each verb checks access, existence (`not_found`), consistency (`invalid`), quota
 * (`exhausted`, rule quota) and state (`conflict`), in this order, and returns the resource as it will be.
 */
export type Verbs = {
  createTenant(input: { name: string; description: string | null; password?: string }): Promise<{ tenant: Tenant; token: string }>
  deleteTenant(id: string): Promise<Tenant>
  addDomain(tenant: string, domain: string): Promise<Domain>
  /** Replaces the whole configuration; `cloudflareToken` undefined keeps the stored one. `created` on the first. */
  putProvider(input: Omit<Provider['spec'], 'cloudflareToken'> & { cloudflareToken?: string }): Promise<{ provider: Provider; created: boolean }>
  createVpc(input: { name: string; internet: boolean; labels?: Record<string, string> }): Promise<Vpc>
  /** Takes its subnets and workloads along; what Circloud cannot show blocks when `hold` names its kind. */
  deleteVpc(id: string, how?: { hold?: readonly string[] }): Promise<Vpc>
  createSubnet(input: { vpc: string; name: string; cidr: string; gateway: string; labels?: Record<string, string> }): Promise<Subnet>
  createWorkload(input: NewWorkload): Promise<Workload>
  deleteWorkload(id: string): Promise<Workload>
  /** One replica more or less; refused `conflict` while autoscaling, stopped or being deleted, and outside 1..`max`. */
  scaleWorkload(id: string, by: 1 | -1, max: number): Promise<Workload>
  /** New containers in every slot; also starts a stopped one. */
  restartWorkload(id: string): Promise<Workload>
  /** Applies Circloud's rules of healing and autoscaling (§4.3); an empty change does nothing. */
  configureWorkload(id: string, change: WorkloadChange): Promise<Workload>
  addRegistryCredential(input: { name: string; server: string; username: string; password: string }): Promise<RegistryCredential>
  /** Generic verbs for the native API: each goes to the kind's own verb where there is one. */
  create(kind: AnyKind, input: { name: string; labels?: Record<string, string>; spec: unknown }): Promise<Resource>
  /** `spec` is merged over the current one (RFC 7396). Refused `conflict` when `generation` is given and has moved. */
  patch(kind: AnyKind, id: string, change: { name?: string; labels?: Record<string, string | null>; spec?: unknown; generation?: number }): Promise<Resource>
  remove(kind: AnyKind, id: string): Promise<Resource>
  /** Found in the caller's tenant, else `not_found`. Sees what this commit made. */
  get<S extends TSchema, T extends TSchema>(kind: Kind<S, T>, id: string): Promise<Resource<Static<S>, Static<T>>>
  /** By a name claimed in a scope. */
  find<S extends TSchema, T extends TSchema>(kind: Kind<S, T>, scope: string, name: string): Promise<Resource<Static<S>, Static<T>> | undefined>
}

export type Cloud = {
  /** Every kind that exists, by name. */
  readonly kinds: ReadonlyMap<string, AnyKind>
  readonly version: { readonly version: string; readonly commit: string | null }
  /** Undefined for an unknown, revoked or expired token. */
  authenticate(token: string, origin: Origin): Promise<Caller | undefined>
  /** Checks a password, limited per user name and address (`rate_limited`); gives a new token of that user. */
  login(input: { username: string; password: string }, origin: Origin): Promise<{ user: User; token: string }>
  /** The same caller acting in a tenant: an administrator's in any (`not_found` if it does not exist), others only in their own. */
  inTenant(caller: Caller, tenant: string): Promise<Caller>
  /**
   * Does everything `work` does in one commit, with an audit entry named `what`. A lost race runs `work` again, so it must
   * do nothing but call verbs. With dryRun everything is checked and nothing is written.
   */
  act<R>(caller: Caller, what: string, work: (verbs: Verbs) => Promise<R>, how?: { dryRun?: boolean }): Promise<R>
  get<S extends TSchema, T extends TSchema>(caller: Caller, kind: Kind<S, T>, id: string): Promise<Resource<Static<S>, Static<T>>>
  list<S extends TSchema, T extends TSchema>(caller: Caller, kind: Kind<S, T>, query?: Omit<ListQuery, 'kind' | 'tenant'>): Promise<Page<Resource<Static<S>, Static<T>>>>
  /** Every page of a list, oldest first; for dialects without paging. */
  all<S extends TSchema, T extends TSchema>(caller: Caller, kind: Kind<S, T>, query?: Omit<ListQuery, 'kind' | 'tenant' | 'after' | 'limit'>): Promise<Resource<Static<S>, Static<T>>[]>
  find<S extends TSchema, T extends TSchema>(caller: Caller, kind: Kind<S, T>, scope: string, name: string): Promise<Resource<Static<S>, Static<T>> | undefined>
  /** Changes the caller may see, from now or after a cursor, until the signal aborts or the credential is revoked; `gone` when the cursor is too old. */
  watch(caller: Caller, query: { kind?: string; after?: string }, signal: AbortSignal): AsyncIterable<Change>
  explain(caller: Caller, kind: AnyKind, id: string): Promise<Explanation>
  records(caller: Caller, query: { stream: NewRecord['stream']; subject?: string; after?: string; limit?: number; newestFirst?: boolean }): Promise<{ readonly records: readonly StoredRecord[]; readonly next?: string }>
  /** The last sample of a replica, undefined before the first. */
  sample(replica: string): Sample | undefined
  logs(caller: Caller, replica: string, how: { follow?: boolean; tail?: number; after?: string }, signal: AbortSignal): Promise<AsyncIterable<LogEntry>>
  exec(caller: Caller, replica: string, how: { command: readonly string[]; tty: boolean; width?: number; height?: number }, signal: AbortSignal): Promise<ExecSession>
  /** Differences between records and reality, in words, with what will mend each; empty when there are none. Administrators only. */
  leaks(caller: Caller, signal: AbortSignal): Promise<readonly Leak[]>
  /** What the host lacks, by feature; administrators only. */
  missing(caller: Caller, signal: AbortSignal): Promise<readonly string[]>
  /** Prometheus text. */
  metrics(): Promise<string>
}

export type Leak = {
  /** `orphan`: real and not in the records. `missing`: in the records and not real. `drift`: both, and they differ. */
  readonly what: 'orphan' | 'missing' | 'drift'
  readonly kind: string
  readonly id: string
  readonly detail: string
  readonly mend: string
}
