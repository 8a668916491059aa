import { createFence } from '#lib/fence.ts'
import type { FrontCertificate, FrontDriver } from './front.driver.ts'
import { forgetting } from './fronts.ts'

/** What this process handed to the front door; empty after a start, and then each certificate is handed over once more. */
export type Handover = {
  /** Hands over what differs from what was handed over before. */
  put(certificate: Omit<FrontCertificate, 'generation'>, signal: AbortSignal): Promise<void>
  remove(id: string, signal: AbortSignal): Promise<void>
  /** Drops the memory of one certificate, since it was seen to differ. */
  distrust(id: string): void
}

export function createHandover(front: FrontDriver): Handover {
  const applied = new Map<string, { text: string; generation: number }>()
  const fence = createFence()
  return {
    put: (certificate, signal) =>
      fence.write(certificate.id, async () => {
        const { id } = certificate
        const text = JSON.stringify(certificate)
        const had = applied.get(id)
        if (had?.text === text) return
        const seen =
          had?.generation ??
          (await front.list(signal)).certificates.find((it) => it.id === id)?.generation ??
          0
        const generation = seen + 1
        // Not known until it is answered: a call that fails may be done all the same.
        applied.set(id, { text: '', generation })
        await forgetting(
          () => void applied.delete(id),
          front.applyCertificate({ ...certificate, generation }, signal),
        )
        applied.set(id, { text, generation })
      }),
    remove: (id, signal) =>
      fence.remove(id, async () => {
        applied.delete(id)
        await front.removeCertificate(id, signal)
      }),
    distrust: (id) => void applied.delete(id),
  }
}
