import { CloudError } from '#lib/errors.ts'
import { actionOf, authorise, creatorOf, ownTenant } from '#cloud/access.ts'
import { replica } from '#cloud/compute/replica.kind.ts'
import { needPromise, type VerbContext } from '#cloud/context.ts'
import { found, toChange } from '#cloud/found.ts'
import type { Named } from './gateway.verbs.ts'
import { liveVpc } from './network.verbs.ts'
import { dnsName, fullName, PRIORITY_DEFAULT, recordData, type RecordType } from './record-content.ts'
import { record, type ZoneRecord } from './record.kind.ts'
import { type PrivateZone, TTL_SECONDS_MAX, TTL_SECONDS_MIN, zone } from './zone.kind.ts'

export const TTL_SECONDS_DEFAULT = 300
const RECORDS_OF_ZONE_MAX = 1000
/** Domains that are not a zone's: this machine, and names for looking backwards, which are made of addresses. */
const RESERVED = ['localhost', 'arpa']

export type NewZone = Named & {
  readonly vpc: string
  readonly description?: string
  readonly defaultTtlSeconds?: number
}

/** The private zone of a VPC. Refused `already_exists` when the VPC has one, or the tenant one of this name. */
export async function createZone(
  context: VerbContext,
  { vpc, description, defaultTtlSeconds = TTL_SECONDS_DEFAULT, ...input }: NewZone,
): Promise<PrivateZone> {
  const { draft, caller } = context
  authorise(caller, 'write', actionOf(zone.name, 'create'), { kind: zone.name, name: input.name })
  needPromise(context, 'zones', 'private zones')
  const name = dnsName(input.name, 'name')
  if (RESERVED.some((it) => name === it || name.endsWith(`.${it}`)))
    throw new CloudError('invalid', `cannot be ${RESERVED.join(' or ')}, or below`, { field: 'name' })
  const inVpc = await liveVpc(context, vpc)
  return draft.create(zone, {
    tenant: ownTenant(caller),
    ...input,
    name,
    spec: {
      vpc: inVpc.id,
      defaultTtlSeconds: brought(defaultTtlSeconds),
      ...(description === undefined ? {} : { description }),
      ...creatorOf(caller),
    },
  })
}

/** A time within what is allowed. */
const brought = (seconds: number): number => Math.min(Math.max(seconds, TTL_SECONDS_MIN), TTL_SECONDS_MAX)

export type NewRecord = Named & {
  readonly zone: string
  readonly type: RecordType
  readonly content: string
  /** The zone's default unless told; brought between a minute and a day. */
  readonly ttlSeconds?: number
  readonly priority?: number
}

/**
 * A record of a zone. Refused `invalid` for a content that is none of its type, `conflict` (rule in_use) for one that is
 * there already or that an alias (CNAME) of the same name rules out, `exhausted` beyond RECORDS_OF_ZONE_MAX.
 */
export async function createRecord(
  context: VerbContext,
  { zone: of, type, content, ttlSeconds, priority, ...input }: NewRecord,
): Promise<ZoneRecord> {
  const { draft, caller } = context
  authorise(caller, 'write', actionOf(record.name, 'create'), { kind: record.name, name: input.name })
  const within = await found(context, zone, of, 'Zone')
  recordData(type, content, priority)
  const name = nameIn(within, input.name)
  const others = await othersOf(context, within)
  if (others.length >= RECORDS_OF_ZONE_MAX)
    throw new CloudError('exhausted', `A zone has at most ${RECORDS_OF_ZONE_MAX} records`, {
      rule: 'capacity',
    })
  needRoom(within, { name, type, content }, others)
  return draft.create(record, {
    tenant: ownTenant(caller),
    ...input,
    name,
    spec: {
      zone: within.id,
      vpc: within.spec.vpc,
      type,
      content,
      ttlSeconds: brought(ttlSeconds ?? within.spec.defaultTtlSeconds),
      ...prioritised(type, priority),
      ...creatorOf(caller),
    },
  })
}

const prioritised = (type: RecordType, priority = PRIORITY_DEFAULT): { priority?: number } =>
  type === 'MX' || type === 'SRV' ? { priority } : {}

export type RecordChange = {
  readonly content: string
  readonly ttlSeconds?: number
  readonly priority?: number
}

/** Another content, and what else is named, of a record. Refused as `createRecord` is, `conflict` also for one that is kept for an instance. */
export async function updateRecord(
  context: VerbContext,
  id: string,
  { content, ttlSeconds, priority }: RecordChange,
): Promise<ZoneRecord> {
  await needByHand(context, id)
  const it = await toChange(context, record, id, 'Record')
  const within = await found(context, zone, it.spec.zone, 'Zone')
  const { type } = it.spec
  recordData(type, content, priority)
  const others = (await othersOf(context, within)).filter((one) => one.id !== it.id)
  needRoom(within, { name: it.name, type, content }, others)
  return context.draft.edit(record, it, {
    spec: {
      ...it.spec,
      content,
      ttlSeconds: ttlSeconds === undefined ? it.spec.ttlSeconds : brought(ttlSeconds),
      ...prioritised(type, priority ?? it.spec.priority),
    },
  })
}

export async function deleteRecord(context: VerbContext, id: string): Promise<ZoneRecord> {
  await needByHand(context, id)
  const it = await toChange(context, record, id, 'Record', actionOf(record.name, 'delete'))
  context.draft.mark(it)
  return it
}

/** Refuses what is kept for an instance (`conflict`, rule wrong_state): its id is that of the replica. */
async function needByHand({ draft, caller }: VerbContext, id: string): Promise<void> {
  if (await draft.get(replica, ownTenant(caller), id))
    throw new CloudError(
      'conflict',
      'The record is kept for an instance and goes with it; a record of the same name takes its place',
      { rule: 'wrong_state' },
    )
}

/** The records of a zone; of two that ask at once, one asks again. */
async function othersOf({ draft }: VerbContext, { id, tenant }: PrivateZone): Promise<ZoneRecord[]> {
  await draft.guard(`records:${id}`, id)
  return await draft.list(record, { tenant, terms: [`zone:${id}`], deleted: false })
}

function nameIn(within: PrivateZone, given: string): string {
  if (given === '@') return given
  const name = dnsName(given, 'name')
  dnsName(fullName(name, within.name), 'name')
  return name
}

type Wanted = { readonly name: string; readonly type: RecordType; readonly content: string }

function needRoom(within: PrivateZone, it: Wanted, others: readonly ZoneRecord[]): void {
  const name = fullName(it.name, within.name)
  const same = others.filter((one) => fullName(one.name, within.name) === name)
  const inUse = (message: string): CloudError =>
    new CloudError('conflict', message, { field: 'name', rule: 'in_use' })
  if (it.type === 'CNAME' && name === within.name)
    throw new CloudError('invalid', 'the zone itself cannot be an alias (CNAME)', { field: 'type' })
  if (it.type === 'CNAME' && same.length)
    throw inUse(`An alias (CNAME) is alone at its name, and ${name} has other records`)
  if (same.some((one) => one.spec.type === 'CNAME'))
    throw inUse(`${name} is an alias (CNAME), which is alone at its name`)
  if (same.some((one) => one.spec.type === it.type && one.spec.content === it.content))
    throw inUse(`${name} has this ${it.type} record already`)
}
