import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openAuthority } from '#lib/authority.ts'
import { simulatedClock } from '#lib/clock.ts'
import type { CertificateIssuer } from '#cloud/edge/issuer.driver.ts'
import { internalIssuer } from '#drivers/issuer/internal.ts'

/**
 * Gives one certificate for whatever it is asked: to make a key takes real time and randomness, which a history that can
 * be repeated has not.
 */
export async function signedOnce(startMs: number): Promise<CertificateIssuer> {
  const folder = mkdtempSync(join(tmpdir(), 'arcus-sim-authority-'))
  try {
    const authority = openAuthority({ folder, clock: simulatedClock(startMs) })
    const issued = await internalIssuer(authority).issue(['any.example'], new AbortController().signal)
    return { issue: async () => await Promise.resolve(issued) }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
