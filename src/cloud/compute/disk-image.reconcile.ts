import { isAhead } from '#lib/clock.ts'
import { again, gone, type Outcome, type Reconcile, settled } from '#engine/reconcile.ts'
import type { DiskImage } from './disk-image.kind.ts'
import { type DiskImagesDriver, formatOf, type SeenDiskImage } from './disk-images.driver.ts'
import { paced, PROGRESS_EVERY_MS, progressWords } from './progress.ts'

/** Fetches that may fail in a row before it is given up. */
const FETCH_TRIES_MAX = 4
/** Before the second try; each further one waits twice as long. */
const RETRY_MS = 5000

type Status = DiskImage['status']
type Planned = { readonly outcome: Outcome<Status>; readonly fetch?: true }

/** After so many failures in a row. */
const pauseMs = (failures: number): number => RETRY_MS * 2 ** (failures - 1)

const LOST = 'its file is gone from this machine'

/** What a look at an image's content says of it, and whether a fetch is due. Pure. */
export function planDiskImage(
  { spec, status: had, observed, generation }: DiskImage,
  seen: SeenDiskImage | undefined,
  now: number,
): Planned {
  const failures = had.failures ?? 0
  const begin = (): Planned => ({
    outcome: again(PROGRESS_EVERY_MS, 'it is to be fetched', {
      state: 'loading',
      ...(failures ? { failures } : {}),
    }),
    fetch: true,
  })
  switch (seen?.state) {
    case 'present':
      return { outcome: settled({ state: 'active', ...seen.content }) }
    case 'arriving': {
      const how = spec.source === undefined ? 'it is being uploaded' : 'it is being fetched'
      const message = seen.progress ? progressWords(how, seen.progress) : 'it waits for others to be fetched'
      const status: Status = {
        state: 'loading',
        message,
        ...(seen.progress ? { progress: paced(had.progress, seen.progress, now) } : {}),
        ...(failures ? { failures } : {}),
      }
      return { outcome: again(PROGRESS_EVERY_MS, message, status) }
    }
    case 'failed': {
      const { message, final } = seen
      // Of before it was changed.
      if (had.state === 'error' && observed < generation) return begin()
      if (had.retryAt !== undefined)
        return isAhead(had.retryAt, pauseMs(failures), now)
          ? { outcome: again(had.retryAt - now, message, had) }
          : begin()
      if (final || failures + 1 >= FETCH_TRIES_MAX) return { outcome: settled({ state: 'error', message }) }
      const waitMs = pauseMs(failures + 1)
      const status: Status = { state: 'loading', message, failures: failures + 1, retryAt: now + waitMs }
      return { outcome: again(waitMs, message, status) }
    }
    case undefined:
      // What could not be had is not tried again by itself, nor after a restart.
      if (spec.source !== undefined && (had.state !== 'error' || observed < generation)) return begin()
      if (had.state === 'error') return { outcome: settled(had) }
      return {
        outcome: settled(had.state === 'active' ? { state: 'error', message: LOST } : { state: 'pending' }),
      }
  }
}

/** Has an image's content be there, as far as that is not for its owner to bring. */
export const reconcileDiskImage =
  (images: DiskImagesDriver): Reconcile<DiskImage> =>
  async (it, { draft, signal }) => {
    if (it.deletedAt !== undefined) {
      await images.remove(it.id, signal)
      return gone
    }
    const planned = planDiskImage(it, await images.observe(it.id, signal), draft.now)
    const url = planned.fetch && draft.open(it, 'url')
    if (url !== undefined)
      await images.fetch({ id: it.id, url, format: formatOf(new URL(url).pathname) }, signal)
    return planned.outcome
  }
