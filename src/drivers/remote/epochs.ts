import { CloudError } from '#lib/errors.ts'
import { readIfThere, writeAtomically } from '#lib/files.ts'

/** Lets writes of the newest cloud process pass and refuses those of one that was overtaken, also after a restart. */
export type Epochs = { check(epoch: number): Promise<void> }

export async function openEpochs(path: string): Promise<Epochs> {
  let highest = Number((await readIfThere(path)) ?? 0) || 0
  let turn: Promise<void> = Promise.resolve()
  const advance = async (epoch: number): Promise<void> => {
    if (epoch > highest) {
      await writeAtomically(path, String(epoch))
      highest = epoch
    }
    if (epoch < highest) {
      const message = `a newer cloud process (epoch ${highest}) is in charge of this host, not epoch ${epoch}`
      throw new CloudError('conflict', message, { rule: 'lost_race' })
    }
  }
  return {
    check(epoch) {
      if (!Number.isSafeInteger(epoch) || epoch < 0) {
        return Promise.reject(new CloudError('invalid', 'a write needs the epoch of its cloud process'))
      }
      if (epoch === highest) return Promise.resolve()
      turn = turn.catch(() => {}).then(() => advance(epoch))
      return turn
    },
  }
}
