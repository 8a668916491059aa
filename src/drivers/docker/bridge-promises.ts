import type { NetworkPromise } from '#cloud/network/promises.driver.ts'

/** What Docker's own bridges can keep, without a rule or a route of ours on the host. */
export const BRIDGE_PROMISES: readonly NetworkPromise[] = [
  'neighbours',
  'isolation',
  'unassigned',
  'names',
  'way-out',
  'no-way-out',
  'private',
]
