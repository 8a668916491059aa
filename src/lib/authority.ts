import { createPrivateKey, KeyObject, randomBytes, webcrypto, X509Certificate } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import type { Clock } from './clock.ts'
import { CloudError, messageOf } from './errors.ts'

/** A private key and its certificate in PEM. */
export type Pair = { readonly key: string; readonly cert: string }

/** A certificate authority of this installation's own; its pair is `ca.crt` and `ca.key` of a folder. */
export type Authority = {
  /** For clients to trust. */
  readonly file: string
  /** Made when absent, broken or near its end. */
  current(): Promise<Pair>
  /** A certificate for servers of these host names and addresses, with a key of its own. */
  issue(names: readonly string[], days: number, subject?: string): Promise<Pair>
}

const DAY_MS = 86_400_000
const AUTHORITY_DAYS = 3650
/** With less than this left, a new one is made. */
const RENEW_DAYS = 30
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

/** Whether key and certificate belong together. */
export const fits = (pair: Pair): boolean =>
  new X509Certificate(pair.cert).checkPrivateKey(createPrivateKey(pair.key))
/** Whether a certificate has enough of its life left. */
export const lasts = (pair: Pair, now: number): boolean =>
  new X509Certificate(pair.cert).validToDate.getTime() > now + RENEW_DAYS * DAY_MS

/** `NAME.crt` and `NAME.key` of a folder; undefined when one is missing. */
export async function readPair(folder: string, name: string): Promise<Pair | undefined> {
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

export async function writePair(folder: string, name: string, pair: Pair): Promise<void> {
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
  const { default: x509 } = await import('@peculiar/x509')
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

async function makeServer(
  authority: Pair,
  { names, days, subject, now }: { names: readonly string[]; days: number; subject: string; now: number },
): Promise<Pair> {
  const x509 = await library()
  const keys = await newKeys()
  const issuer = new x509.X509Certificate(authority.cert)
  const cert = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject,
    issuer: issuer.subject,
    notBefore: new Date(now - DAY_MS),
    // No longer than its signer, else nobody trusts it in the end.
    notAfter: new Date(Math.min(now + days * DAY_MS, issuer.notAfter.getTime())),
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

/** The authority kept in a folder, which only its user may read. */
export function openAuthority({
  folder,
  clock,
}: {
  readonly folder: string
  readonly clock: Clock
}): Authority {
  // One at a time: two that find none would make two.
  let turn: Promise<unknown> = Promise.resolve()
  const ensure = async (): Promise<Pair> => {
    const now = clock.now()
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const held = await readPair(folder, 'ca')
    if (held && fits(held) && lasts(held, now)) return held
    const made = await makeAuthority(now)
    await writePair(folder, 'ca', made)
    return made
  }
  const current = (): Promise<Pair> => {
    const mine = turn.then(ensure)
    turn = mine.catch(() => {})
    return mine
  }
  return {
    file: join(folder, 'ca.crt'),
    current,
    issue: async (names, days, subject = 'CN=Arcus') =>
      await makeServer(await current(), { names, days, subject, now: clock.now() }),
  }
}
