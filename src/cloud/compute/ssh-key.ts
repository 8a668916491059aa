import { createHash } from 'node:crypto'
import { CloudError } from '#lib/errors.ts'

const KEY_TYPES = [
  'ssh-ed25519',
  'ssh-rsa',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'sk-ssh-ed25519@openssh.com',
  'sk-ecdsa-sha2-nistp256@openssh.com',
]
const LENGTH_BYTES = 4

/** A public key on one line, and its fingerprint as `ssh-keygen -l` shows it; `invalid` when it is none. */
export function parsePublicKey(text: string): { publicKey: string; fingerprint: string } {
  const publicKey = text.trim()
  const [type = '', body = ''] = publicKey.split(/\s+/)
  const bytes = Buffer.from(body, 'base64')
  const length = bytes.length < LENGTH_BYTES ? 0 : bytes.readUInt32BE(0)
  // The key says its type once more within.
  const inner = bytes.subarray(LENGTH_BYTES, LENGTH_BYTES + length).toString('latin1')
  const isWhole = bytes.toString('base64').replace(/=+$/, '') === body.replace(/=+$/, '')
  const isKey = KEY_TYPES.includes(type) && inner === type && bytes.length > LENGTH_BYTES + length
  if (/[\r\n]/.test(publicKey) || !isWhole || !isKey)
    throw new CloudError(
      'invalid',
      `must be one line of a public key, as in an authorized_keys file: one of ${KEY_TYPES.join(', ')}, a space and the key in base64`,
      { field: 'public_key' },
    )
  const hash = createHash('sha256').update(bytes).digest('base64').replace(/=+$/, '')
  return { publicKey, fingerprint: `SHA256:${hash}` }
}
