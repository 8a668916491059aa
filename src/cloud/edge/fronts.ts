import { isCloudError } from '#lib/errors.ts'
import { createFence } from '#lib/fence.ts'
import type { Front, FrontDriver } from './front.driver.ts'

/**
 * What this process knows of the front door: the routes in force per VPC. Only a memory of what the driver said: empty
 * after a start, and then every VPC is applied once more.
 */
export type Fronts = {
  /**
   * Applies what differs from what is in force; answers the routes that are new, changed or gone in it. `parts` are the
   * generations of the tunnels and routes that it was made from, by id.
   */
  apply(
    front: Omit<Front, 'generation'>,
    parts: ReadonlyMap<string, number>,
    signal: AbortSignal,
  ): Promise<readonly string[]>
  remove(vpc: string, signal: AbortSignal): Promise<void>
  /** Drops the memory of one VPC, since it was seen to differ. */
  distrust(vpc: string): void
  /** Whether the front in force has this route, or one on its way; undefined before this process applied one. */
  serves(vpc: string, route: string): boolean | undefined
  /** Whether the front in force has this route, made from this generation of it or a later one. */
  holds(vpc: string, route: string, generation: number): boolean
  /** Whether a route of the front in force, or of one on its way, leads to this origin. */
  leadsTo(vpc: string, origin: string): boolean
  /** Connections that an origin of the VPC still has, also after it left the front; none while the edge is away. */
  open(vpc: string, origin: string, signal: AbortSignal): Promise<number>
}

type Held = {
  generation: number
  text: string
  /** By id, each as text. */
  readonly routes: ReadonlyMap<string, string>
  readonly origins: ReadonlySet<string>
  /** Routes and origins of fronts that were sent since and not answered for: they may be in force. */
  readonly sent: Set<string>
  parts: ReadonlyMap<string, number>
}

/** What the driver holds is not what was thought when it refuses: somebody else wrote a newer one. */
export async function forgetting(forget: () => void, work: Promise<void>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (isCloudError(error, 'conflict')) forget()
    throw error
  }
}

export function createFronts(door: FrontDriver): Fronts {
  const held = new Map<string, Held>()
  const fence = createFence()
  return {
    apply: (front, parts, signal) =>
      fence.write(front.vpc, async () => {
        const had = held.get(front.vpc)
        const text = JSON.stringify(front)
        if (had?.text === text) {
          had.parts = parts
          return []
        }
        const seen =
          had?.generation ??
          (await door.list(signal)).fronts.find((it) => it.vpc === front.vpc)?.generation ??
          0
        const routes = new Map(front.routes.map((it) => [it.id, JSON.stringify(it)]))
        const origins = new Set(front.routes.flatMap((it) => it.origins.map((origin) => origin.id)))
        const generation = seen + 1
        // Not known until it is answered: a call that fails may be done all the same, and then the wish may go back.
        if (had) Object.assign(had, { text: '', generation })
        for (const id of [...routes.keys(), ...origins]) had?.sent.add(id)
        // A VPC that nothing leads to has no table at all.
        if (front.routes.length) {
          const forget = (): void => void held.delete(front.vpc)
          await forgetting(forget, door.apply({ ...front, generation }, signal))
        } else if (seen > 0) await door.remove(front.vpc, signal)
        // Seen to differ meanwhile: what it was told now may not have repaired that.
        const isDoubted = had !== undefined && held.get(front.vpc) !== had
        held.set(front.vpc, {
          generation: front.routes.length ? generation : 0,
          text: isDoubted ? '' : text,
          routes,
          origins,
          sent: new Set(),
          parts,
        })
        const before = had?.routes ?? new Map<string, string>()
        return [...new Set([...routes.keys(), ...before.keys()])].filter(
          (id) => routes.get(id) !== before.get(id),
        )
      }),
    remove: (vpc, signal) =>
      fence.remove(vpc, async () => {
        held.delete(vpc)
        await door.remove(vpc, signal)
      }),
    distrust: (vpc) => void held.delete(vpc),
    serves(vpc, route) {
      const it = held.get(vpc)
      return it && (it.routes.has(route) || it.sent.has(route))
    },
    holds(vpc, route, generation) {
      const it = held.get(vpc)
      return it !== undefined && it.routes.has(route) && (it.parts.get(route) ?? -1) >= generation
    },
    leadsTo(vpc, origin) {
      const it = held.get(vpc)
      return it !== undefined && (it.origins.has(origin) || it.sent.has(origin))
    },
    async open(vpc, origin, signal) {
      const it = held.get(vpc)
      if (!it?.routes.size && !it?.sent.size) return 0
      try {
        return (await door.open(signal))[origin] ?? 0
      } catch (error) {
        if (isCloudError(error, 'unavailable')) return 0
        throw error
      }
    },
  }
}
