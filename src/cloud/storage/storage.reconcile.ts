import type { Draft } from '#engine/draft.ts'
import { again, gone, type Reconcile, settled } from '#engine/reconcile.ts'
import type { ComputeDriver, SeenVolume, VolumeWish } from '#cloud/compute/compute.driver.ts'
import { VOLUME_USE } from '#cloud/compute/workload.kind.ts'
import type { Snapshot } from './snapshot.kind.ts'
import { type Volume, volume } from './volume.kind.ts'

const MAKING_MS = 500
const GROWING_MS = 5000
const FAILED_MS = 15_000
/** A volume wakes the snapshot that it is made of; this is for when that was missed. */
const COPIED_MS = 10_000
const VOLUME_STATES = { making: 'creating', growing: 'growing', failed: 'error' } as const

type Waits = {
  readonly state: 'making' | 'growing' | 'failed'
  readonly afterMs: number
  readonly reason: string
}

/** What it waits for while it is not as wanted yet; undefined once it is. Pure. */
export function waitsFor(seen: SeenVolume | undefined, sizeGib: number): Waits | undefined {
  const reason = seen?.message
  if (!seen || seen.state === 'making')
    return { state: 'making', afterMs: MAKING_MS, reason: reason ?? 'it is being made' }
  if (seen.state === 'failed')
    return { state: 'failed', afterMs: FAILED_MS, reason: reason ?? 'it cannot be made' }
  if (seen.state === 'growing' || seen.sizeGib < sizeGib)
    return { state: 'growing', afterMs: GROWING_MS, reason: reason ?? 'it is growing' }
  return undefined
}

async function made(compute: ComputeDriver, wish: VolumeWish, signal: AbortSignal) {
  await compute.applyVolume(wish, signal)
  return await compute.observeVolume(wish.id, signal)
}

/** Keeps a volume's file system on the host. */
export const reconcileVolume =
  (compute: ComputeDriver): Reconcile<Volume> =>
  async (it, { draft, signal }) => {
    if (it.deletedAt !== undefined) {
      await compute.removeVolume(it.id, signal)
      return gone
    }
    const { sizeGib, from } = it.spec
    const seen = await made(compute, { id: it.id, sizeGib, ...(from === undefined ? {} : { from }) }, signal)
    const waits = waitsFor(seen, sizeGib)
    if (waits)
      return again(waits.afterMs, waits.reason, {
        state: VOLUME_STATES[waits.state],
        message: waits.reason,
        ...(seen?.sizeGib ? { sizeGib: seen.sizeGib } : {}),
      })
    const use = await draft.claimed(VOLUME_USE, it.id)
    return settled({
      state: use ? 'in-use' : 'available',
      sizeGib,
      ...(use ? { workload: use.owner } : {}),
    })
  }

/** A volume that begins with what a snapshot holds and does not have it yet. */
async function unmadeOf(it: Snapshot, draft: Draft): Promise<Volume | undefined> {
  const query = { tenant: it.tenant, terms: [`from:${it.id}`], deleted: false }
  return (await draft.list(volume, query)).find(({ status }) => status.sizeGib === undefined)
}

/** Keeps a copy of what a volume held. */
export const reconcileSnapshot =
  (compute: ComputeDriver): Reconcile<Snapshot> =>
  async (it, { draft, signal, why }) => {
    if (it.deletedAt !== undefined) {
      const unmade = await unmadeOf(it, draft)
      if (unmade)
        return again(
          COPIED_MS,
          `waits for volume ${unmade.name}: ${(await why(unmade)) ?? 'it is being made'}`,
        )
      await compute.removeVolume(it.id, signal)
      return gone
    }
    const of = await draft.get(volume, it.tenant, it.spec.volume)
    if (of?.status.state === 'creating')
      return again(MAKING_MS, `waits for volume ${of.name}, which is being made`)
    const { sizeGib, volume: from } = it.spec
    const seen = await made(compute, { id: it.id, sizeGib, from }, signal)
    const waits = waitsFor(seen, sizeGib)
    if (!waits) return settled({ state: 'available' })
    const state = waits.state === 'failed' ? 'error' : 'creating'
    return again(waits.afterMs, waits.reason, { state, message: waits.reason })
  }
