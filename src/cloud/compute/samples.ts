import type { ComputeDriver, Sample } from './compute.driver.ts'

/** Older than this says nothing of now. */
const FRESH_MS = 60_000

/** The last sample of each replica, kept in memory; history is a bulk record. */
export type Samples = {
  /** Asks the host for what its containers use now. */
  look(signal: AbortSignal): Promise<void>
  get(id: string): Sample | undefined
  /** How often it was looked: what `get` gives is the same for as long as this is. */
  looks(): number
  /** Average CPU of those replicas that have a fresh sample, undefined when none has. */
  averageMillicores(ids: readonly string[], now: number): number | undefined
}

export function createSamples(compute: Pick<ComputeDriver, 'samples'>): Samples {
  let last = new Map<string, Sample>()
  let looks = 0
  return {
    looks: () => looks,
    async look(signal) {
      const samples = await compute.samples(signal)
      looks++
      last = new Map(samples.map((it) => [it.id, it]))
    },
    get: (id) => last.get(id),
    averageMillicores(ids, now) {
      const fresh = ids.flatMap((id) => last.get(id) ?? []).filter((it) => it.at > now - FRESH_MS)
      return fresh.length ? fresh.reduce((sum, it) => sum + it.cpuMillicores, 0) / fresh.length : undefined
    },
  }
}
