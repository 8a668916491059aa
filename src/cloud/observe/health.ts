import type { Engine } from '#engine/engine.ts'
import type { Drivers } from './audit.ts'

/** How long an answer is given again: anyone may ask. */
const KEPT_MS = 5_000
const PROBE_MS = 5_000

/** What the cloud stands on. */
export type Health = {
  readonly database: boolean
  readonly compute: boolean
  /** Sentences naming what the network lacks; undefined when it does not answer. */
  readonly network: readonly string[] | undefined
}

/** Asks what the cloud stands on, at most every few seconds whoever asks. */
export function createHealth(
  engine: Engine,
  drivers: Pick<Drivers, 'network' | 'compute'>,
): () => Promise<Health> {
  let last: { readonly at: number; readonly health: Promise<Health> } | undefined
  const look = async (): Promise<Health> => {
    const signal = AbortSignal.timeout(PROBE_MS)
    const answers = async (probe: () => Promise<unknown>): Promise<boolean> =>
      await probe().then(
        () => true,
        () => false,
      )
    const [database, compute, network] = await Promise.all([
      answers(async () => await engine.store.stats()),
      answers(async () => await drivers.compute.list(signal)),
      drivers.network.missing(signal).catch(() => undefined),
    ])
    return { database, compute, network }
  }
  return async () => {
    const now = engine.clock.now()
    if (!last || Math.abs(now - last.at) >= KEPT_MS) last = { at: now, health: look() }
    return await last.health
  }
}
