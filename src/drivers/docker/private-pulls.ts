import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { readIfThere, writeAtomically } from '#lib/files.ts'
import { createLanes } from '#lib/lanes.ts'
import type { DockerApi } from './docker.ts'

/** `was` is the image that the reference named before. */
type PrivatePull = { readonly reference: string; readonly was?: string }

/**
 * Pulls with a login of which it is not noted yet whose the image is that they bring: Docker has that before it says so, and
 * whoever is to note it may end first. They are on disk from before Docker is asked.
 */
export type PrivatePulls = {
  /** Gives a name for it. */
  begin(reference: string): Promise<string>
  /** It is noted whose image it brought, and with it of those of the same reference that were broken off. */
  noted(pull: string): Promise<void>
  /** It did not end well: it is forgotten if Docker has nothing of it. */
  failed(pull: string): Promise<void>
  /** An image has been shown to be for everyone. */
  clear(image: string): Promise<void>
  /** Whether one of them, other than `except`, may have brought this image. */
  mayHaveBrought(image: string, except?: string): Promise<boolean>
}

export async function openPrivatePulls(
  api: Pick<DockerApi, 'image'>,
  directory: string,
): Promise<PrivatePulls> {
  const path = join(directory, 'private-pulls.json')
  const kept = JSON.parse((await readIfThere(path)) ?? '{}') as Record<string, PrivatePull>
  const pulls = new Map(Object.entries(kept))
  const underWay = new Set<string>()
  const inTurn = createLanes()
  const save = (): Promise<void> =>
    inTurn(path, () => writeAtomically(path, JSON.stringify(Object.fromEntries(pulls))))
  const brought = async ({ reference, was }: PrivatePull, image: string): Promise<boolean> =>
    was !== image && (await api.image(reference)) === image
  return {
    async begin(reference) {
      const was = await api.image(reference)
      const pull = randomUUID()
      underWay.add(pull)
      pulls.set(pull, { reference, ...(was === undefined ? {} : { was }) })
      await save()
      return pull
    },
    async noted(pull) {
      underWay.delete(pull)
      const reference = pulls.get(pull)?.reference
      for (const [other, it] of pulls)
        if (it.reference === reference && !underWay.has(other)) pulls.delete(other)
      await save()
    },
    async failed(pull) {
      underWay.delete(pull)
      const it = pulls.get(pull)
      if (!it || (await api.image(it.reference)) !== it.was) return
      pulls.delete(pull)
      await save()
    },
    async clear(image) {
      let changed = false
      for (const [pull, it] of pulls)
        if (await brought(it, image)) {
          pulls.set(pull, { ...it, was: image })
          changed = true
        }
      if (changed) await save()
    },
    async mayHaveBrought(image, except) {
      for (const [pull, it] of pulls) if (pull !== except && (await brought(it, image))) return true
      return false
    },
  }
}
