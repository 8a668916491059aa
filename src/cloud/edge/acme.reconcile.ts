import { gone, type Reconcile, settled } from '#engine/reconcile.ts'
import type { Acme } from './acme.kind.ts'
import { retryCertificates } from './certificate.reconcile.ts'
import type { AcmeDriver } from './issuer.driver.ts'

/** Keeps the account at the authority. A failure is tried again by the engine's own backoff, and tells why. */
export const reconcileAcme =
  (driver: AcmeDriver): Reconcile<Acme> =>
  async (it, { draft, signal }) => {
    if (it.deletedAt !== undefined) return gone
    const { directory, email, keyId, trust } = it.spec
    const hmacKey = draft.open(it, 'hmacKey')
    const held = it.status.directory === directory ? draft.open(it, 'status.key') : undefined
    const made = await driver.register(
      {
        directory,
        ...(email === undefined ? {} : { email }),
        ...(keyId !== undefined && hmacKey ? { binding: { keyId, hmacKey } } : {}),
        ...(trust === undefined ? {} : { trust }),
        ...(held === undefined ? {} : { key: held }),
      },
      signal,
    )
    if (it.observed !== it.generation) await retryCertificates(draft)
    return settled({ state: 'active', ...made, directory })
  }
