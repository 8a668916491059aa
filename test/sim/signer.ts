import type { CertificateIssuer } from '#cloud/edge/issuer.driver.ts'

/** Keys are made by the real clock and real randomness, which a history that can be repeated has not. */
export const NOBODY_SIGNS: CertificateIssuer = {
  issue: async () => await Promise.reject(new Error('nothing of a history asks for a certificate')),
}
