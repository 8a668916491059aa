import type { Bench } from './context.ts'
import { creates } from './creates.ts'
import { delay } from './delay.ts'
import { edge } from './edge.ts'
import { growth } from './growth.ts'
import { inside } from './inside.ts'
import { live } from './live.ts'
import { pods } from './pods.ts'
import { reads } from './reads.ts'
import { reconcile } from './reconcile.ts'
import { rules } from './rules.ts'
import { starts } from './starts.ts'
import { traffic } from './traffic.ts'

/** Every bench, in the order of a run. A new one is added here. */
export const BENCHES: readonly Bench[] = [
  reads,
  inside,
  growth,
  creates,
  delay,
  reconcile,
  starts,
  pods,
  traffic,
  rules,
  edge,
  live,
]
