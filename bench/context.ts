import type { Figure } from './figure.ts'

/** How much of everything a run takes: `full` is for figures, `smoke` only shows that it works. */
export type Scale = {
  readonly rounds: number
  /** One side of one round under load. */
  readonly loadMs: number
  /** Operations timed one by one. */
  readonly samples: number
  /** Resources of the large and of the small data folder. */
  readonly many: number
  readonly few: number
  /** Starts of a process. */
  readonly starts: number
  /** From the start of a process, or of a cloud, to its memory being looked at. */
  readonly idleMs: number
  /** Starts of a whole cloud after which its memory is looked at. */
  readonly memoryRounds: number
  readonly podsAtOnce: number
  readonly podRounds: number
  readonly trafficRounds: number
  readonly trafficSeconds: number
  /** Of one VPC: rules of its security groups, and instances in it. */
  readonly rules: number
  readonly instances: number
}

export const FULL: Scale = {
  rounds: 5,
  loadMs: 1500,
  samples: 400,
  many: 100_000,
  few: 1000,
  starts: 9,
  idleMs: 6000,
  memoryRounds: 5,
  podsAtOnce: 50,
  podRounds: 9,
  trafficRounds: 5,
  trafficSeconds: 2,
  rules: 1000,
  instances: 200,
}
export const SMOKE: Scale = {
  rounds: 1,
  loadMs: 300,
  samples: 5,
  many: 120,
  few: 60,
  starts: 1,
  idleMs: 100,
  memoryRounds: 1,
  podsAtOnce: 2,
  podRounds: 1,
  trafficRounds: 1,
  trafficSeconds: 1,
  rules: 20,
  instances: 4,
}

export type Context = {
  /** A folder for this bench alone; removed after it. */
  readonly scratch: string
  readonly scale: Scale
  say(line: string): void
}

export type Need = 'root' | 'engine' | 'nginx'

export type Bench = {
  readonly name: string
  readonly about: string
  readonly needs: readonly Need[]
  run(context: Context): Promise<Figure[]>
}
