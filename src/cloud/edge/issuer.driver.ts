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

/** Who signs certificates. Each call makes a new key. Refusals are CloudErrors whose message is fit for the certificate's owner. */
export interface CertificateIssuer {
  /** Signs for these names. `publish` puts answers where the authority looks, and is called with none at the end. */
  issue(
    names: readonly string[],
    publish: (challenges: readonly Challenge[]) => Promise<void>,
    signal: AbortSignal,
  ): Promise<IssuedCertificate>
}

/** An issuer for each source of certificates that has one. */
export type Issuers = { readonly internal: CertificateIssuer }
