import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openAuthority } from '#lib/authority.ts'
import { systemClock } from '#lib/clock.ts'

const DAYS = 90

/** What the domains of swept tenants are below. */
export const BELOW = 'swept.example'

async function sign(): Promise<{ readonly chain: string; readonly key: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-sweep-'))
  try {
    const { cert, key } = await openAuthority({ folder, clock: systemClock }).issue([`*.${BELOW}`], DAYS)
    return { chain: cert, key }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** A certificate that a tenant brings, good for the domain of each. */
export const GIVEN = await sign()

/** The same key with letters before it, where PEM allows a remark. */
export const keyWith = (letters: string): string => `${letters}\n${GIVEN.key}`

/** Id of a user who is a member of no tenant until a sweep makes one of them. */
export const NEWCOMER = '0190aaaa-0000-7000-8000-00000000beef'

/** A public key whose private half nobody has. */
export const SSH_KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH'
