import { createPrivateKey, KeyObject, randomBytes, webcrypto, X509Certificate } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import type { Clock } from '#lib/clock.ts'
import { CloudError, messageOf } from '#lib/errors.ts'

/** A server's certificate and key in PEM, and the file of the authority that signed it, for clients to trust. */
export type Certificate = { readonly key: string; readonly cert: string; readonly authorityFile: string }

export type CertificateOptions = {
  /** Where authority, certificate and keys are kept; made when absent. */
  readonly folder: string
  /** Host names and addresses the server answers to, beside localhost and loopback. */
  readonly names: readonly string[]
  readonly clock: Clock
}

const DAY_MS = 86_400_000
const AUTHORITY_DAYS = 3650
const SERVER_DAYS = 397
/** With less than this left, a new one is made. */
const RENEW_DAYS = 30
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
const ALWAYS = ['localhost', '*.localhost', '127.0.0.1', '::1']

type Pair = { readonly key: string; readonly cert: string }

const fits = (pair: Pair): boolean =>
  new X509Certificate(pair.cert).checkPrivateKey(createPrivateKey(pair.key))
const lasts = (pair: Pair, now: number): boolean =>
  new X509Certificate(pair.cert).validToDate.getTime() > now + RENEW_DAYS * DAY_MS

/** Names as they stand in a certificate of Node's own reading, sorted, so that two lists can be compared. */
const namesIn = (cert: X509Certificate): string[] =>
  (cert.subjectAltName ?? '')
    .split(', ')
    .map((it) => it.replace(/^(DNS|IP Address):/, ''))
    .toSorted()
const asRead = (name: string): string => (name === '::1' ? '0:0:0:0:0:0:0:1' : name)

async function readPair(folder: string, name: string): Promise<Pair | undefined> {
  try {
    const [key, cert] = await Promise.all(
      ['key', 'crt'].map((it) => readFile(join(folder, `${name}.${it}`), 'utf8')),
    )
    return key && cert ? { key, cert } : undefined
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new CloudError(
      'unavailable',
      `Cannot read the certificate in ${folder}: ${messageOf(error)}`,
      {},
      error,
    )
  }
}

async function writePair(folder: string, name: string, pair: Pair): Promise<void> {
  // Each by rename; a pair of which only the key got written no longer fits together and is made anew.
  for (const [ending, text, mode] of [
    ['key', pair.key, 0o600],
    ['crt', pair.cert, 0o644],
  ] as const) {
    const file = join(folder, `${name}.${ending}`)
    await writeFile(`${file}.new`, text, { mode })
    await rename(`${file}.new`, file)
  }
}

// Loaded when a certificate has to be made, which is once a year: the library takes longer to load than the rest of HTTP.
const library = async () => {
  await import('reflect-metadata')
  const x509 = await import('@peculiar/x509')
  x509.cryptoProvider.set(webcrypto as Crypto)
  return x509
}

const newKeys = () => webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
const pemOf = (key: webcrypto.CryptoKey): string =>
  KeyObject.from(key).export({ type: 'pkcs8', format: 'pem' }).toString()
/** Positive and random, as serial numbers must be. */
const serial = (): string => `01${randomBytes(15).toString('hex')}`

async function makeAuthority(now: number): Promise<Pair> {
  const x509 = await library()
  const keys = await newKeys()
  const cert = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: 'CN=Arcus local authority',
    notBefore: new Date(now - DAY_MS),
    notAfter: new Date(now + AUTHORITY_DAYS * DAY_MS),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  return { key: pemOf(keys.privateKey), cert: `${cert.toString('pem')}\n` }
}

async function makeServer(authority: Pair, names: readonly string[], now: number): Promise<Pair> {
  const x509 = await library()
  const keys = await newKeys()
  const issuer = new x509.X509Certificate(authority.cert)
  const cert = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: 'CN=Arcus',
    issuer: issuer.subject,
    notBefore: new Date(now - DAY_MS),
    notAfter: new Date(now + SERVER_DAYS * DAY_MS),
    signingAlgorithm: ALGORITHM,
    publicKey: keys.publicKey,
    signingKey: createPrivateKey(authority.key).toCryptoKey(ALGORITHM, false, ['sign']),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(
        names.map((value) => ({ type: isIP(value) ? ('ip' as const) : ('dns' as const), value })),
      ),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  return { key: pemOf(keys.privateKey), cert: `${cert.toString('pem')}\n` }
}

/**
 * The certificate to serve with: `server.crt` and `server.key` of the folder. Made when absent, near its end, or when the
 * names differ, by an authority of this installation's own (`ca.crt`, `ca.key`), which is made once. A certificate that
 * another authority signed was put there by the operator and is used as it is.
 */
export async function ensureCertificate({ folder, names, clock }: CertificateOptions): Promise<Certificate> {
  const now = clock.now()
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const authorityFile = join(folder, 'ca.crt')
  let authority = await readPair(folder, 'ca')
  const held = await readPair(folder, 'server')
  const seen = held && new X509Certificate(held.cert)
  if (seen && !(authority && seen.checkIssued(new X509Certificate(authority.cert))))
    return { ...held, authorityFile }
  if (!authority || !fits(authority) || !lasts(authority, now)) {
    authority = await makeAuthority(now)
    await writePair(folder, 'ca', authority)
  }
  const wanted = [...new Set([...ALWAYS, ...names])]
  const fresh =
    held !== undefined &&
    seen !== undefined &&
    fits(held) &&
    lasts(held, now) &&
    seen.verify(new X509Certificate(authority.cert).publicKey) &&
    namesIn(seen).join() === wanted.map(asRead).toSorted().join()
  if (fresh) return { ...held, authorityFile }
  const made = await makeServer(authority, wanted, now)
  await writePair(folder, 'server', made)
  return { ...made, authorityFile }
}
