import type { Authority } from '#lib/authority.ts'
import type { CertificateIssuer } from '#cloud/edge/issuer.driver.ts'

/** Short enough that renewal is something that happens all the time. */
const DAYS = 90

/** Signs with this installation's own authority, which clients must be told to trust. */
export const internalIssuer = (authority: Pick<Authority, 'issue'>): CertificateIssuer => ({
  async issue(names) {
    const { key, cert } = await authority.issue(names, DAYS, `CN=${(names[0] ?? '').slice(0, 64)}`)
    return { key, chain: cert }
  },
})
