import type { Audited } from '#cloud/observe/finding.driver.ts'

/** What a record says, as `dns-packet` knows it. Names are in lower case without a final dot. */
export type RecordData =
  | { readonly type: 'A' | 'AAAA' | 'CNAME'; readonly data: string }
  | { readonly type: 'MX'; readonly data: { readonly preference: number; readonly exchange: string } }
  | {
      readonly type: 'SRV'
      readonly data: {
        readonly priority: number
        readonly weight: number
        readonly port: number
        readonly target: string
      }
    }
  /** Texts of 255 characters at most. */
  | { readonly type: 'TXT'; readonly data: readonly string[] }

/** A record of a VPC's private zone. */
export type ServedRecord = { readonly name: string; readonly ttlSeconds: number } & RecordData

/** DNS of one VPC, as the edge serves it. */
export type Zone = {
  readonly vpc: string
  readonly generation: number
  /** Fabric addresses that ask on behalf of this VPC. */
  readonly callers: readonly string[]
  /** Lower-case names without a final dot (`web`, `web.production.internal`), each with its addresses of both families. */
  readonly names: Readonly<
    Record<string, { readonly a: readonly string[]; readonly aaaa: readonly string[] }>
  >
  /** Of its private zone; absent: none. Its domain is one of `suffixes`, and no name has addresses here and in `names`. */
  readonly records?: readonly ServedRecord[]
  /** Suffixes this VPC is the authority for: an unknown name below one does not exist and is not forwarded. */
  readonly suffixes: readonly string[]
  /** Resolvers for every other name; empty: the host's own. Ignored when `forward` is off. */
  readonly nameservers: readonly string[]
  /** Whether names outside are looked up at all (VPC with internet). */
  readonly forward: boolean
}

/** The tenants' side of the platform: DNS now, later the proxy. Keeps its last tables on disk. */
export interface EdgeDriver extends Audited {
  apply(zone: Zone, signal: AbortSignal): Promise<void>
  remove(vpc: string, signal: AbortSignal): Promise<void>
  list(signal: AbortSignal): Promise<readonly { readonly vpc: string; readonly generation: number }[]>
}
