import { messageOf } from '#lib/errors.ts'
import { gone, type Reconcile, settled } from '#engine/reconcile.ts'
import type { Domain } from './domain.kind.ts'
import type { NamesDriver } from './names.driver.ts'

/** Looked at often while somebody is at it, and seldom for one that was forgotten. */
const EAGER_MS = 10_000
const EAGER_FOR_MS = 900_000
const LAZY_MS = 600_000

export const PROOF_PREFIX = 'arcus-domain='
export const proofName = (domain: string): string => `_arcus.${domain}`

/**
 * Verifies a domain by its TXT record. One that was verified stays so. Until then it is settled: nothing of the platform
 * is in the way, and what the tenant does with their DNS is looked for all the same.
 */
export const reconcileDomain =
  (names: NamesDriver): Reconcile<Domain> =>
  async (it, { draft, signal }) => {
    if (it.deletedAt !== undefined) return gone
    if (it.spec.proof === 'admin') return settled({ state: 'verified' })
    if (it.status.state === 'verified') return settled(it.status)
    const wanted = `${PROOF_PREFIX}${it.spec.challenge ?? ''}`
    const again = draft.now - it.createdAt < EAGER_FOR_MS ? EAGER_MS : LAZY_MS
    let records: readonly string[]
    try {
      records = await names.txt(proofName(it.name), signal)
    } catch (error) {
      if (signal.aborted) throw error
      return settled(
        { state: 'error', message: `${proofName(it.name)} cannot be looked up: ${messageOf(error)}` },
        again,
      )
    }
    if (!records.includes(wanted)) {
      const message = `add to your DNS: ${proofName(it.name)} TXT "${wanted}"; it is looked for every ${again / 1000} s`
      return settled({ state: 'pending', message }, again)
    }
    const holder = await draft.claimed('domain', it.name)
    if (holder && holder.owner !== it.id)
      return settled(
        { state: 'error', message: 'another tenant of this installation holds the domain' },
        LAZY_MS,
      )
    draft.claim({ pool: 'domain', value: it.name, ends: 'deletion', refusal: 'Domain already exists' }, it.id)
    draft.record({
      stream: 'event',
      tenant: it.tenant,
      subject: it.id,
      what: 'domain.verified',
      body: { domain: it.name },
    })
    return settled({ state: 'verified', verifiedAt: draft.now })
  }
