import Type, { type Static } from 'typebox'
import type { NewRecord } from '#engine/store.ts'

/** The class of a running replica: what it is charged by. */
export const ReplicaClass = Type.Object({ cpuMillicores: Type.Integer(), memoryMib: Type.Integer() })
export type ReplicaClass = Static<typeof ReplicaClass>

/** An interval that is still open, kept by what is metered; `since` in milliseconds since 1970. */
export const Metered = Type.Object({ since: Type.Integer(), ...ReplicaClass.properties })
export type Metered = Static<typeof Metered>

/**
 * Usage is two records for each interval, each part of the commit that causes it: one opens it, one closes it. A thing
 * has one open interval of a type at most.
 */
export const USAGE = {
  replicaOpened: 'replica.opened',
  replicaClosed: 'replica.closed',
  addressOpened: 'address.opened',
  addressClosed: 'address.closed',
} as const
export type UsageWord = (typeof USAGE)[keyof typeof USAGE]

export type ReplicaOpened = ReplicaClass
export type ReplicaClosed = Metered
export type AddressUsage = { readonly address: string }

type Owner = { readonly id: string; readonly tenant: string }
type UsageRecord = Omit<NewRecord, 'at'>

const record = (it: Owner, what: UsageWord, body: unknown): UsageRecord => ({
  stream: 'usage',
  tenant: it.tenant,
  subject: it.id,
  what,
  body,
})

/** An external address is held from the commit that takes it until the record of its holder is removed. */
export const addressOpened = (it: Owner, address: string): UsageRecord =>
  record(it, USAGE.addressOpened, { address } satisfies AddressUsage)
export const addressClosed = (it: Owner, address: string): UsageRecord =>
  record(it, USAGE.addressClosed, { address } satisfies AddressUsage)

/**
 * The interval that is open after a look at a replica, and the records that lead there from the one before. `running` is
 * the class it runs in now, undefined when it does not run. A change of class closes one interval and opens another.
 */
export function meter(
  it: Owner,
  open: Metered | undefined,
  running: ReplicaClass | undefined,
  now: number,
): { readonly open: Metered | undefined; readonly records: readonly UsageRecord[] } {
  const same =
    open && running && open.cpuMillicores === running.cpuMillicores && open.memoryMib === running.memoryMib
  if (same || (!open && !running)) return { open, records: [] }
  const closed = open ? [record(it, USAGE.replicaClosed, open satisfies ReplicaClosed)] : []
  if (!running) return { open: undefined, records: closed }
  const { cpuMillicores, memoryMib } = running
  const opened = record(it, USAGE.replicaOpened, { cpuMillicores, memoryMib } satisfies ReplicaOpened)
  return { open: { since: now, cpuMillicores, memoryMib }, records: [...closed, opened] }
}
