import { connect } from 'node:net'
import type { Clock } from '#lib/clock.ts'
import { inParallel } from '#lib/lanes.ts'
import type { Origin } from '#cloud/edge/front.driver.ts'
import { placeOf } from './balance.ts'
import type { FrontLimits } from './limits.ts'
import type { FrontTable } from './table.ts'

type Place = Pick<Origin, 'address' | 'port'>

/** Looks at the origins of load balancers, each by a connection of its own. */
export type Checks = {
  /** It could not be connected to when it was last looked at. */
  isDown(place: Place): boolean
  /** See `health` of the front's driver. */
  told(): Readonly<Record<string, Readonly<Record<string, boolean>>>>
  /** Looks at those of this table and no others, at new ones at once. */
  keep(table: FrontTable): void
  close(): Promise<void>
}

/** Whether a connection is accepted in time. */
const answers = ({ address, port }: Place, inside: string | undefined, msMax: number): Promise<boolean> =>
  new Promise((resolve) => {
    const from = inside === undefined ? {} : { localAddress: inside }
    const socket = connect({ host: address, port, ...from })
    const end = (up: boolean): void => {
      socket.destroy()
      resolve(up)
    }
    socket.setTimeout(msMax, () => end(false))
    socket.once('connect', () => end(true))
    socket.once('error', () => end(false))
  })

export function createChecks(options: {
  readonly table: () => FrontTable
  readonly clock: Clock
  readonly limits: FrontLimits
  /** See createOrigins. */
  readonly inside?: string | undefined
}): Checks {
  const { table, clock, limits, inside } = options
  const closing = new AbortController()
  const seen = new Map<string, boolean>()
  let wanted: ReadonlyMap<string, Place> = new Map()

  const look = async (places: ReadonlyMap<string, Place>): Promise<void> => {
    await inParallel([...places], limits.checksAtOnceMax, async ([key, place]) => {
      const up = await answers(place, inside, limits.checkMsMax)
      if (wanted.has(key)) seen.set(key, up)
    })
  }
  const run = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      await clock.sleep(limits.checkEveryMs, closing.signal).catch(() => {})
      if (!closing.signal.aborted) await look(wanted)
    }
  }
  const running = run()

  return {
    isDown: (place) => seen.get(placeOf(place)) === false,
    told: () =>
      Object.fromEntries(
        [...table().balancers.values()].map(({ route }) => [
          route.id,
          Object.fromEntries(
            route.origins.flatMap((it) => {
              const up = seen.get(placeOf(it))
              return up === undefined ? [] : [[it.id, up]]
            }),
          ),
        ]),
      ),
    keep(current) {
      const before = wanted
      const origins = [...current.balancers.values()].flatMap(({ route }) => route.origins)
      wanted = new Map(origins.map((it) => [placeOf(it), it]))
      for (const key of seen.keys()) if (!wanted.has(key)) seen.delete(key)
      void look(new Map([...wanted].filter(([key]) => !before.has(key))))
    },
    async close() {
      closing.abort()
      await running
    },
  }
}
