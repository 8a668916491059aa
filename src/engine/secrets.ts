import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto'
import { open, readFile, rename, stat, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { CloudError } from '#lib/errors.ts'

/** Seals secrets at rest. `binding` (kind, id, field) is authenticated, so a sealed text is worthless elsewhere. */
export type Keyring = {
  seal(plain: string, binding: string): string
  /** Throws when the text was not sealed by this key for this binding. */
  open(sealed: string, binding: string): string
  isSealed(text: string): boolean
  /** A proof that this key's holder made of a text, in base64url; of no worth for another purpose. */
  mac(text: string, purpose: string): string
}

const KEY_BYTES = 32
const IV_BYTES = 12
/** Of how many seals the bytes are fetched at once: each fetch is a call into the kernel. */
const SEALS_PER_FETCH = 256
const TAG_BYTES = 16
const PREFIX = 'sealed:1:'

/** AES-256-GCM under a master key of 32 bytes. */
export function createKeyring(masterKey: Buffer): Keyring {
  if (masterKey.length !== KEY_BYTES) throw new Error(`a master key has ${KEY_BYTES} bytes`)
  /** By purpose, of which the program has a few. */
  const keys = new Map<string, Buffer>()
  let ivs = Buffer.alloc(0)
  const nextIv = (): Buffer => {
    if (!ivs.length) ivs = randomBytes(IV_BYTES * SEALS_PER_FETCH)
    const iv = ivs.subarray(0, IV_BYTES)
    ivs = ivs.subarray(IV_BYTES)
    return iv
  }
  return {
    seal(plain, binding) {
      const iv = nextIv()
      const cipher = createCipheriv('aes-256-gcm', masterKey, iv).setAAD(Buffer.from(binding))
      const text = Buffer.concat([cipher.update(plain, 'utf8'), cipher.final()])
      return PREFIX + Buffer.concat([iv, cipher.getAuthTag(), text]).toString('base64url')
    },
    open(sealed, binding) {
      const bytes = Buffer.from(sealed.slice(PREFIX.length), 'base64url')
      if (!sealed.startsWith(PREFIX) || bytes.length < IV_BYTES + TAG_BYTES)
        throw new Error(`the secret of ${binding} is not a sealed text`)
      const iv = bytes.subarray(0, IV_BYTES)
      const tag = bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES)
      const decipher = createDecipheriv('aes-256-gcm', masterKey, iv, { authTagLength: TAG_BYTES })
      decipher.setAAD(Buffer.from(binding)).setAuthTag(tag)
      try {
        const text = decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES))
        return Buffer.concat([text, decipher.final()]).toString('utf8')
      } catch (error) {
        throw new Error(`the secret of ${binding} was sealed by another key or for another place`, {
          cause: error,
        })
      }
    },
    isSealed: (text) => text.startsWith(PREFIX),
    mac(text, purpose) {
      const known = keys.get(purpose)
      const key = known ?? Buffer.from(hkdfSync('sha256', masterKey, '', purpose, KEY_BYTES))
      keys.set(purpose, key)
      return createHmac('sha256', key).update(text).digest('base64url')
    },
  }
}

async function write(path: string, key: Buffer): Promise<void> {
  // Written whole beside its place first: a crash half-way must not leave a short key behind.
  const draft = `${path}.new`
  await unlink(draft).catch(() => {})
  const file = await open(draft, 'wx', 0o600)
  try {
    await file.writeFile(`${key.toString('base64')}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(draft, path)
  const folder = await open(dirname(path), 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/**
 * The master key in a file that its user alone may read; made on the first start. Without it nothing that was sealed can
 * be opened again. Refused `unavailable` when others can read it or it holds no key.
 */
export async function openMasterKey(path: string, random: (size: number) => Buffer): Promise<Buffer> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw new CloudError('unavailable', `the master key ${path} cannot be read: ${error.message}`)
  })
  if (!found) {
    const key = random(KEY_BYTES)
    await write(path, key)
    return key
  }
  if (!found.isFile()) throw new CloudError('unavailable', `the master key ${path} is not a file`)
  if (found.mode & 0o077)
    throw new CloudError('unavailable', `the master key ${path} can be read by others; run chmod 600 ${path}`)
  const key = Buffer.from((await readFile(path, 'utf8')).trim(), 'base64')
  if (key.length !== KEY_BYTES)
    throw new CloudError('unavailable', `the master key ${path} is damaged; restore it from a backup`)
  return key
}
