import type { ImageWish, SeenImage } from '#cloud/compute/compute.driver.ts'
import { CloudError, messageOf } from '#lib/errors.ts'
import type { Images, Progress } from './images.ts'

/** Fetches without a container that may go on at once. */
const FETCHES_MAX = 16
/** How long it is remembered why one failed. */
const FAILURE_KEPT_MS = 60_000

type Fetch = { readonly state: 'pulling' | 'failed'; readonly progress?: Progress; readonly message?: string }

/** Images that are fetched for themselves, ahead of any container. */
export function createFetches(images: Images, stop: AbortSignal) {
  const fetches = new Map<string, Fetch>()
  const keyOf = ({ tenant, image, registry }: ImageWish): string =>
    JSON.stringify([tenant, image, registry?.server, registry?.username])
  const run = async (wish: ImageWish, key: string): Promise<void> => {
    const { registry } = wish
    const login = registry && {
      serveraddress: registry.server,
      username: registry.username,
      password: registry.password,
    }
    try {
      await images.fetch(wish, login, (progress) => fetches.set(key, { state: 'pulling', progress }), stop)
      fetches.delete(key)
    } catch (error) {
      const failed: Fetch = { state: 'failed', message: messageOf(error) }
      fetches.set(key, failed)
      setTimeout(() => {
        if (fetches.get(key) === failed) fetches.delete(key)
      }, FAILURE_KEPT_MS).unref()
    }
  }
  return {
    async observe(wish: ImageWish): Promise<SeenImage> {
      if (await images.has(wish)) return { state: 'present' }
      return fetches.get(keyOf(wish)) ?? { state: 'absent' }
    },
    async begin(wish: ImageWish): Promise<void> {
      const key = keyOf(wish)
      if (fetches.get(key)?.state === 'pulling' || (await images.has(wish))) return
      const under = [...fetches.values()].filter((it) => it.state === 'pulling').length
      if (under >= FETCHES_MAX)
        throw new CloudError('unavailable', `${under} images are being fetched; ask again when one is there`)
      fetches.set(key, { state: 'pulling' })
      void run(wish, key)
    },
  }
}
