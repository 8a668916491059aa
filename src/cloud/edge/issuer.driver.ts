/** A chain (leaf first) and its private key, in PEM. */
export type IssuedCertificate = { readonly chain: string; readonly key: string }

/** By what an authority is shown that a name is ours: the answer of a path of the hostname, or a TXT record. */
export type Challenge =
  | {
      readonly type: 'http-01'
      readonly hostname: string
      readonly token: string
      readonly answer: string
    }
  | { readonly type: 'dns-01'; readonly hostname: string; readonly record: string; readonly value: string }

/** Puts answers where the authority looks for them, and is called with none at the end. */
export type Publish = (challenges: readonly Challenge[]) => Promise<void>

/** Who signs certificates. Each call makes a new key. Refusals are CloudErrors whose message is fit for the certificate's owner. */
export interface CertificateIssuer {
  issue(names: readonly string[], signal: AbortSignal): Promise<IssuedCertificate>
}

/** An account at an ACME authority. */
export type AcmeAccount = {
  readonly directory: string
  readonly key: string
  readonly account: string
  readonly trust?: string
}

/** A client of ACME authorities. Refusals are CloudErrors that tell what the authority said. */
export interface AcmeDriver {
  /** Finds or makes the account of a key; without one a new key is made. */
  register(
    input: {
      readonly directory: string
      readonly email?: string
      readonly binding?: { readonly keyId: string; readonly hmacKey: string }
      readonly trust?: string
      readonly key?: string
    },
    signal: AbortSignal,
  ): Promise<{ readonly account: string; readonly key: string }>
  /** A whole order: answers the challenges of one type, waits for the authority, fetches the chain. */
  issue(
    account: AcmeAccount,
    order: { readonly names: readonly string[]; readonly challenge: Challenge['type'] },
    publish: Publish,
    signal: AbortSignal,
  ): Promise<IssuedCertificate>
}

/** What the DNS provider lets change its zones. */
export type DnsAccess = { readonly token: string }

/** DNS records of zones that somebody else serves. */
export interface TxtRecords {
  /** Adds a value to a name; done when DNS answers with it, or the provider took it and DNS is slow to follow. */
  put(access: DnsAccess, record: string, value: string, signal: AbortSignal): Promise<void>
  /** Fine when it is not there. */
  remove(access: DnsAccess, record: string, value: string, signal: AbortSignal): Promise<void>
}

/** What certificates are signed by. */
export type Issuers = { readonly internal: CertificateIssuer; readonly acme: AcmeDriver }
