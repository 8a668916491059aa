import { X509Certificate } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { fits, lasts, openAuthority, readPair, writePair } from '#lib/authority.ts'
import type { Clock } from '#lib/clock.ts'
import { run } from '#lib/command.ts'
import { entryFile } from '#lib/entry.ts'

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

/** What is kept and good to serve with; undefined when it has to be made. */
async function keptCertificate({
  folder,
  names,
  clock,
}: CertificateOptions): Promise<Certificate | undefined> {
  const [held, signer] = await Promise.all([readPair(folder, 'server'), readPair(folder, 'ca')])
  if (!held) return undefined
  const kept = { ...held, authorityFile: openAuthority({ folder, clock }).file }
  const seen = new X509Certificate(held.cert)
  const authority = signer && new X509Certificate(signer.cert)
  if (!authority || !seen.checkIssued(authority)) return kept
  const now = clock.now()
  const isFresh =
    [signer, held].every((it) => fits(it) && lasts(it, now)) &&
    seen.verify(authority.publicKey) &&
    namesIn(seen).join() === wantedOf(names).map(asRead).toSorted().join()
  return isFresh ? kept : undefined
}

const wantedOf = (names: readonly string[]): readonly string[] => [...new Set([...ALWAYS, ...names])]

/**
 * The certificate to serve with: `server.crt` and `server.key` of the folder. Made when absent, near its end, or when the
 * names differ, by an authority of this installation's own (`ca.crt`, `ca.key`), which is made once. A certificate that
 * another authority signed was put there by the operator and is used as it is.
 */
export async function ensureCertificate(options: CertificateOptions): Promise<Certificate> {
  const { folder, names, clock } = options
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const kept = await keptCertificate(options)
  if (kept) return kept
  const authority = openAuthority({ folder, clock })
  const made = await authority.issue(wantedOf(names), SERVER_DAYS)
  await writePair(folder, 'server', made)
  return { ...made, authorityFile: authority.file }
}

/** The same for what runs on: what makes a certificate is a process that ends, since its memory would be kept for good. */
export async function ensureCertificateApart(options: CertificateOptions): Promise<Certificate> {
  const { folder, names } = options
  const kept = await keptCertificate(options)
  if (kept) return kept
  await run([process.execPath, entryFile('certify'), folder, ...names])
  return await ensureCertificate(options)
}
