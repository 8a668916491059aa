import { X509Certificate } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { fits, lasts, openAuthority, readPair, writePair } from '#lib/authority.ts'
import type { Clock } from '#lib/clock.ts'

/** A server's certificate and key in PEM, and the file of the authority that signed it, for clients to trust. */
export type Certificate = { readonly key: string; readonly cert: string; readonly authorityFile: string }

export type CertificateOptions = {
  /** Where authority, certificate and keys are kept; made when absent. */
  readonly folder: string
  /** Host names and addresses the server answers to, beside localhost and loopback. */
  readonly names: readonly string[]
  readonly clock: Clock
}

const SERVER_DAYS = 397
const ALWAYS = ['localhost', '*.localhost', '127.0.0.1', '::1']

/** Names as they stand in a certificate of Node's own reading, sorted, so that two lists can be compared. */
const namesIn = (cert: X509Certificate): string[] =>
  (cert.subjectAltName ?? '')
    .split(', ')
    .map((it) => it.replace(/^(DNS|IP Address):/, ''))
    .toSorted()
const asRead = (name: string): string => (name === '::1' ? '0:0:0:0:0:0:0:1' : name)

/**
 * The certificate to serve with: `server.crt` and `server.key` of the folder. Made when absent, near its end, or when the
 * names differ, by an authority of this installation's own (`ca.crt`, `ca.key`), which is made once. A certificate that
 * another authority signed was put there by the operator and is used as it is.
 */
export async function ensureCertificate({ folder, names, clock }: CertificateOptions): Promise<Certificate> {
  const now = clock.now()
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const authority = openAuthority({ folder, clock })
  const authorityFile = authority.file
  const had = await readPair(folder, 'ca')
  const held = await readPair(folder, 'server')
  const seen = held && new X509Certificate(held.cert)
  if (seen && !(had && seen.checkIssued(new X509Certificate(had.cert)))) return { ...held, authorityFile }
  const { cert: signer } = await authority.current()
  const wanted = [...new Set([...ALWAYS, ...names])]
  const fresh =
    held !== undefined &&
    seen !== undefined &&
    fits(held) &&
    lasts(held, now) &&
    seen.verify(new X509Certificate(signer).publicKey) &&
    namesIn(seen).join() === wanted.map(asRead).toSorted().join()
  if (fresh) return { ...held, authorityFile }
  const made = await authority.issue(wanted, SERVER_DAYS)
  await writePair(folder, 'server', made)
  return { ...made, authorityFile }
}
