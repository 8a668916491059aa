import type { Authority } from '#lib/authority.ts'
import type { CertificateIssuer } from '#cloud/edge/issuer.driver.ts'

/** Short enough that renewal is something that happens all the time. */
const DAYS = 90
const COMMON_NAME_LENGTH_MAX = 64

/** Signs with this installation's own authority, which clients must be told to trust. */
export const internalIssuer = (authority: Pick<Authority, 'issue'>): CertificateIssuer => ({
  async issue(names) {
    const name = (names[0] ?? '').slice(0, COMMON_NAME_LENGTH_MAX)
    const { key, cert } = await authority.issue(names, DAYS, `CN=${name}`)
    return { key, chain: cert }
  },
})
