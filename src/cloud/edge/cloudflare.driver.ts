/** What an administrator gave in the provider configuration. */
export type CloudflareAccess = { readonly accountId: string; readonly token: string }

/** One line of the tunnel's ingress: what Cloudflare hands a hostname's requests to, as the connector reaches it. */
export type Ingress = {
  readonly hostname: string
  /** `https://127.0.0.1:443`, `tcp://100.113.0.9:5432`. */
  readonly service: string
  /** Name to ask TLS origins for; their certificate is not verified. */
  readonly serverName?: string
}

/** Cloudflare's side of an installation's tunnels: one tunnel of theirs carries all. Refusals are CloudErrors with Cloudflare's words. */
export interface CloudflareDriver {
  /** Finds or makes the tunnel of this name; `connectorToken` is what its connector runs with. */
  tunnel(
    access: CloudflareAccess,
    name: string,
    signal: AbortSignal,
  ): Promise<{ readonly id: string; readonly connectorToken: string }>
  /** Replaces the whole ingress; what no line names is answered 404. */
  configure(
    access: CloudflareAccess,
    id: string,
    ingress: readonly Ingress[],
    signal: AbortSignal,
  ): Promise<void>
  /** Points the hostname's DNS record at the tunnel. Refused `already_exists` when the name has a record that is not ours. */
  point(access: CloudflareAccess, id: string, hostname: string, signal: AbortSignal): Promise<void>
  /** Takes the record away if it points at the tunnel; fine when it is not there. */
  unpoint(access: CloudflareAccess, id: string, hostname: string, signal: AbortSignal): Promise<void>
}

/** The connector that the tunnel of an installation needs on this machine; kept running while the cloud is away. */
export interface ConnectorDriver {
  /** Runs it with this token instead of another, or ends it. */
  apply(connector: { readonly token: string } | undefined, signal: AbortSignal): Promise<void>
  observe(signal: AbortSignal): Promise<{
    readonly state: 'absent' | 'starting' | 'running' | 'failed'
    /** What is wrong, and what to do. */
    readonly message?: string
  }>
}
