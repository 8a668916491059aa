import { timingSafeEqual } from 'node:crypto'
import { attemptOf, type Replica } from '#cloud/compute/replica.kind.ts'

const TOKEN =
  /^ins_([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})_(\d{1,15})_([\w-]{43})$/
const PURPOSE = 'instance token'
/** Proofs kept at most; then they are made anew. */
const PROOFS_MAX = 4096

/** Whose container a token was made for. */
export type Bearer = { readonly replica: string; readonly attempt: number }

/** The attempts whose tokens are good: until the container of before is gone it is still that replica. */
export const goodAttempts = (it: Pick<Replica, 'spec' | 'status'>): readonly (number | undefined)[] => [
  attemptOf(it),
  it.status.attempt,
]

/**
 * Tokens of replicas: made from the replica, its attempt and a key that only the cloud process has, so that they are kept
 * nowhere and are the same after a restart.
 */
export function createTokens(mac: (text: string, purpose: string) => string) {
  const proof = ({ replica, attempt }: Bearer): string => mac(`${replica}/${attempt}`, PURPOSE)
  /** By replica and attempt, what the tokens that were good had to prove: it is the same for ever. */
  const proofs = new Map<string, Buffer>()
  return {
    of(it: Pick<Replica, 'id' | 'spec'>): string {
      const attempt = attemptOf(it)
      return `ins_${it.id.replaceAll('-', '')}_${attempt}_${proof({ replica: it.id, attempt })}`
    },
    /** Undefined for what this installation did not make. */
    read(token: string): Bearer | undefined {
      const [, a, b, c, d, e, attempt, given] = TOKEN.exec(token) ?? []
      if (given === undefined) return undefined
      const bearer = { replica: [a, b, c, d, e].join('-'), attempt: Number(attempt) }
      const key = `${bearer.replica}/${attempt}`
      const known = proofs.get(key)
      const [right, theirs] = [known ?? Buffer.from(proof(bearer)), Buffer.from(given)]
      if (right.length !== theirs.length || !timingSafeEqual(right, theirs)) return undefined
      if (!known) {
        if (proofs.size >= PROOFS_MAX) proofs.clear()
        proofs.set(key, right)
      }
      return bearer
    },
  }
}
export type Tokens = ReturnType<typeof createTokens>
