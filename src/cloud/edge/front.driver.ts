/**
 * How a route carries what arrives at its hostname:
 * - `http`: TLS ends at the edge, plain HTTP/1.1 to the origin; WebSocket and server-sent events pass through.
 * - `https`: the same with TLS to the origin, whose certificate is not verified.
 * - `passthrough`: the TLS connection itself, chosen by SNI, to the origin; the edge needs no certificate.
 * - `stream`: a WebSocket on the hostname whose binary frames are the bytes of one TCP connection to the origin.
 * - `datagram`: UDP datagrams that arrive at the route's own port, with a session for each client.
 * - `tcp`: TCP connections that arrive at the route's own port, at the address by which VPCs reach the edge. Its origins are
 *   looked at by a connection every few seconds, and those that cannot be connected to get none.
 */
export type Carry = 'http' | 'https' | 'passthrough' | 'stream' | 'datagram' | 'tcp'

/** One replica (or other server) that a route leads to. */
export type Origin = {
  /** Id of the replica; counters and draining are told by it. */
  readonly id: string
  /** Host-reachable: the replica's fabric address. */
  readonly address: string
  readonly port: number
  /** Its share of new connections among the origins of a route; 0 gets none. */
  readonly weight: number
}

export type FrontRoute = {
  /** Id of the tunnel or route. */
  readonly id: string
  /** Lower case; `*.example.com` stands for one label below it. An exact name wins over it. */
  readonly hostname: string
  /** `/` or a path without a final slash; the longest that fits wins. Always `/` for what is not HTTP. */
  readonly pathPrefix: string
  /** Take the prefix off before the request goes on; `X-Forwarded-Prefix` says it. */
  readonly stripPrefix: boolean
  readonly carry: Carry
  /** Serve plain HTTP too; without it plain requests are redirected to HTTPS. For `http` and `https`. */
  readonly plain: boolean
  /** Id of the certificate for the hostname; a handshake without one is refused, never answered with another. */
  readonly certificate?: string
  /** Port to listen on; for `datagram` and `tcp`. */
  readonly port?: number
  /** A new connection goes to the origin that has the fewest, by weight; for `tcp`. Absent: in turns by weight. */
  readonly least?: true
  /** Those ready; none: 503 to HTTP, a closed connection to the rest. */
  readonly origins: readonly Origin[]
}

/** Everything that the workloads of one VPC (or the platform itself) are reached by from outside, derived whole. */
export type Front = {
  /** Id of the VPC, or `platform`. */
  readonly vpc: string
  readonly tenant: string
  /** The driver refuses one older than what it serves (`conflict`, lost_race). */
  readonly generation: number
  readonly routes: readonly FrontRoute[]
}

/** A certificate as the edge serves it, and the answers by which an authority is shown that a name is ours. */
export type FrontCertificate = {
  readonly id: string
  readonly tenant: string
  readonly generation: number
  /** Absent until it was issued. The key is sealed in what the edge keeps on disk. */
  readonly issued?: { readonly names: readonly string[]; readonly chain: string; readonly key: string }
  /** HTTP-01: what `/.well-known/acme-challenge/TOKEN` of the hostname answers, before every route. */
  readonly challenges: readonly {
    readonly hostname: string
    readonly token: string
    readonly answer: string
  }[]
}

/** Upper ends of the latency histogram's buckets, in milliseconds; one more bucket counts what took longer. */
export const LATENCY_BUCKETS_MS = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000] as const

/** The counts of a latency histogram beside the upper ends of their buckets; null for the last, which has none. */
export const latencyBuckets = (
  counts: RouteTraffic['latency'],
): { readonly upToMs: number | null; readonly count: number }[] =>
  counts.map((count, at) => ({ upToMs: LATENCY_BUCKETS_MS[at] ?? null, count }))

/** Counters of one route since the edge started (`since`); they begin at 0 again after its restart. */
export type RouteTraffic = {
  readonly route: string
  readonly since: number
  /** HTTP requests; for the other kinds connections or sessions. */
  readonly requests: number
  /** Answers by class of status, HTTP only: `2` counts 200 to 299. */
  readonly statuses: Readonly<Record<'1' | '2' | '3' | '4' | '5', number>>
  readonly receivedBytes: number
  readonly sentBytes: number
  /** Requests answered within each of LATENCY_BUCKETS_MS, and one more bucket for the rest. Not cumulative. */
  readonly latency: readonly number[]
  readonly latencySumMs: number
  /** Open now. */
  readonly active: number
}

/** One line of a route's access log. No query string, no header but the user agent: they carry secrets. */
export type Access = {
  readonly cursor: string
  readonly route: string
  readonly tenant: string
  readonly at: number
  readonly client: string
  readonly hostname: string
  readonly method?: string
  readonly path?: string
  readonly status?: number
  readonly receivedBytes: number
  readonly sentBytes: number
  readonly durationMs: number
  readonly origin?: string
  readonly userAgent?: string
  /** Why it was refused or broke. */
  readonly fault?: string
}

/** The front door. Keeps its last tables on disk and serves them while the cloud is away or after its own restart. */
export interface FrontDriver {
  /** Sentences naming what the host lacks for it (a port that another program has); empty when it serves everything. */
  missing(signal: AbortSignal): Promise<readonly string[]>
  /** In force, and on disk, when it answers; requests in flight go on. */
  apply(front: Front, signal: AbortSignal): Promise<void>
  remove(vpc: string, signal: AbortSignal): Promise<void>
  applyCertificate(certificate: FrontCertificate, signal: AbortSignal): Promise<void>
  removeCertificate(id: string, signal: AbortSignal): Promise<void>
  list(signal: AbortSignal): Promise<{
    readonly fronts: readonly { readonly vpc: string; readonly generation: number }[]
    readonly certificates: readonly { readonly id: string; readonly generation: number }[]
  }>
  /** Counters of every route that is served. */
  traffic(signal: AbortSignal): Promise<readonly RouteTraffic[]>
  /** Connections and requests open now by origin, those whose origin left the table too: what draining waits for. */
  open(signal: AbortSignal): Promise<Readonly<Record<string, number>>>
  /** Of each `tcp` route by id what was last seen of its origins by id, as far as they were looked at: whether they can be connected to. */
  health(signal: AbortSignal): Promise<Readonly<Record<string, Readonly<Record<string, boolean>>>>>
  /**
   * Access log entries after a cursor, oldest first; the edge keeps a bounded number. Undefined: those that no cursor was
   * given back for yet, so that a cloud that was started anew reads none twice that it had asked beyond.
   */
  accesses(
    after: string | undefined,
    limit: number,
    signal: AbortSignal,
  ): Promise<{ readonly entries: readonly Access[]; readonly cursor: string }>
}
