import { argon2, hash, randomBytes, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import { slots } from '#lib/slots.ts'

const hashArgon2 = promisify(argon2)
// OWASP's second recommendation for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB = 19_456
const PASSES = 2
const TAG_BYTES = 32
/** Passwords worked on at once: the threads of the process are its files' too, which anybody who guesses could hold up. */
const AT_ONCE_MAX = 2

const inTurn = slots(AT_ONCE_MAX)
const derive = async (password: string, nonce: Buffer): Promise<Buffer> =>
  await inTurn(
    async () =>
      await hashArgon2('argon2id', {
        message: Buffer.from(password, 'utf8'),
        nonce,
        parallelism: 1,
        memory: MEMORY_KIB,
        passes: PASSES,
        tagLength: TAG_BYTES,
      }),
  )

/** The argon2id hash of a password with a fresh salt, in PHC form. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(16)
  const tag = await derive(password, salt)
  return `$argon2id$v=19$m=${MEMORY_KIB},t=${PASSES},p=1$${base64(salt)}$${base64(tag)}`
}

/** Whether the password is the one hashed; takes as long when `hash` is undefined, so that unknown users do not show. */
export async function verifyPassword(password: string, hash: string | undefined): Promise<boolean> {
  const [salt = '', tag = ''] = hash?.split('$').slice(4) ?? []
  const expected = Buffer.from(tag, 'base64')
  const actual = await derive(password, hash ? Buffer.from(salt, 'base64') : Buffer.alloc(16))
  return expected.length === actual.length && timingSafeEqual(expected, actual)
}

const base64 = (bytes: Buffer): string => bytes.toString('base64').replaceAll('=', '')

/** A token of 256 random bits; the prefix says what it opens. */
export const newToken = (prefix: 'adm' | 'tnt'): string =>
  `${prefix}_${randomBytes(32).toString('base64url')}`

/** A key in thecloud's form: 128 random bits. */
export const newKey = (): string => `thecloud_${randomBytes(16).toString('hex')}`

/** A service account's secret, and what resets a password. */
export const newServiceSecret = (): string => `sa_${randomBytes(32).toString('hex')}`
export const newResetToken = (): string => randomBytes(32).toString('hex')

/** What is kept of a token. */
export const hashToken = (token: string): string => hash('sha256', token)
