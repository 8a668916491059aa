import { claimsConformance } from './store.claims.conformance.ts'
import { queueConformance } from './store.queue.conformance.ts'
import { resourcesConformance } from './store.resources.conformance.ts'
import type { OpenStore } from './store.testing.ts'

/**
 * What every store promises, asked through its interface alone: nothing here assumes that a write is seen before its
 * promise has resolved, or whose clock times it. `open` gives an empty store each time.
 */
export function storeConformance(name: string, open: OpenStore): void {
  resourcesConformance(name, open)
  claimsConformance(name, open)
  queueConformance(name, open)
}
