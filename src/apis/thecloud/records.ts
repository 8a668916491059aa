import Type, { type Static } from 'typebox'
import type { Caller } from '#cloud/access.ts'
import type { StoredRecord } from '#engine/store.ts'
import { type Frame, operation } from './operation.ts'
import { LIMIT_DEFAULT, LIMIT_MAX, limitOf } from './page.ts'
import { NIL, timestamp, Timestamp, Uuid } from './schema.ts'
import { tenantId } from './users.ts'

const AuditLog = Type.Object({
  id: Uuid,
  user_id: Uuid,
  tenant_id: Uuid,
  action: Type.String(),
  resource_type: Type.String(),
  resource_id: Type.String(),
  details: Type.Record(Type.String(), Type.Unknown()),
  ip_address: Type.String(),
  user_agent: Type.String(),
  created_at: Timestamp,
  timestamp: Timestamp,
  actor: Type.String(),
  resource: Type.String(),
  status: Type.Enum(['success', 'failure']),
})
const Event = Type.Object({
  id: Uuid,
  user_id: Uuid,
  tenant_id: Uuid,
  action: Type.String(),
  resource_id: Type.String(),
  resource_type: Type.String(),
  metadata: Type.Unknown(),
  created_at: Timestamp,
})
const Limit = {
  limit: Type.Optional(Type.String({ description: `${LIMIT_DEFAULT} unless told, ${LIMIT_MAX} at most.` })),
}

/** What a record of the audit or of an event says, as far as it does. */
type Body = {
  readonly subject?: string
  readonly address?: string
  readonly userAgent?: string
  readonly kind?: string
  readonly name?: string
  readonly dialect?: string
  readonly requestId?: string
}
const bodyOf = (it: StoredRecord): Body => (it.body ?? {}) as Body

/** Kinds that this dialect calls otherwise. */
const TYPES: Readonly<Record<string, string>> = { workload: 'instance', credential: 'api_key' }
const DIALECTS = /^(circloud|native|carolina|ctrlplane|cycle)\./

/** `vpc.create` of whatever dialect as `VPC_CREATE`. */
const actionOf = (what: string): string =>
  what
    .replace(DIALECTS, '')
    .replaceAll(/[^A-Za-z0-9]+/g, '_')
    .toUpperCase()

const typeOf = (it: StoredRecord): string => {
  const { kind } = bodyOf(it)
  if (kind !== undefined) return TYPES[kind] ?? kind.replaceAll('-', '_')
  return it.what.replace(DIALECTS, '').split('.')[0] ?? ''
}

/** A record's id: its place in the stream, in the form of the ids here. */
const idOf = (it: StoredRecord, stream: 1 | 2): string =>
  `00000000-0000-7000-8${String(stream).padStart(3, '0')}-${Number(it.cursor).toString(16).padStart(12, '0')}`

function encodeAudit(it: StoredRecord, names: ReadonlyMap<string, string>): Static<typeof AuditLog> {
  const { subject: by, address = '', userAgent = '', ...details } = bodyOf(it)
  const at = timestamp(it.at)
  const { subject: id = '' } = it
  return {
    id: idOf(it, 1),
    user_id: by ?? NIL,
    tenant_id: tenantId(it.tenant),
    action: actionOf(it.what),
    resource_type: typeOf(it),
    resource_id: id,
    details: { ...details },
    ip_address: address,
    user_agent: userAgent,
    created_at: at,
    timestamp: at,
    actor: (by === undefined ? undefined : names.get(by)) ?? by ?? 'platform',
    resource: `${typeOf(it)}/${id.slice(0, 8)}`,
    status: 'success',
  }
}

const encodeEvent = (it: StoredRecord, stream: 1 | 2): Static<typeof Event> => ({
  id: idOf(it, stream),
  user_id: bodyOf(it).subject ?? NIL,
  tenant_id: tenantId(it.tenant),
  action: actionOf(it.what),
  resource_id: it.subject ?? '',
  resource_type: typeOf(it).toUpperCase(),
  metadata: stream === 1 ? { name: bodyOf(it).name ?? null, dialect: bodyOf(it).dialect ?? null } : it.body,
  created_at: timestamp(it.at),
})

export function recordRoutes(frame: Frame): void {
  const { cloud } = frame
  const newest = async (caller: Caller, stream: 'audit' | 'event', limit: number) =>
    (await cloud.records(caller, { stream, limit, newestFirst: true })).records
  operation(frame, {
    tag: 'Audit',
    method: 'GET',
    path: '/audit',
    id: 'listAuditLogs',
    summary: 'Who changed what in the tenant, newest first',
    tenancy: 'optional',
    query: Limit,
    answer: Type.Array(AuditLog),
    async run({ caller, query }) {
      const records = await newest(caller, 'audit', limitOf(query.limit))
      const names = await cloud.actors(
        caller,
        records.flatMap((it) => bodyOf(it).subject ?? []),
      )
      return records.map((it) => encodeAudit(it, names))
    },
  })
  operation(frame, {
    tag: 'Events',
    method: 'GET',
    path: '/events',
    id: 'listEvents',
    summary: 'What happened in the tenant, by itself or because somebody asked for it, newest first',
    tenancy: 'optional',
    query: Limit,
    answer: Type.Array(Event),
    async run({ caller, query }) {
      const limit = limitOf(query.limit)
      const acts = (await newest(caller, 'audit', limit)).map((it) => ({
        at: it.at,
        event: encodeEvent(it, 1),
      }))
      const own = (await newest(caller, 'event', limit)).map((it) => ({
        at: it.at,
        event: encodeEvent(it, 2),
      }))
      return [...acts, ...own]
        .toSorted((a, b) => b.at - a.at)
        .slice(0, limit)
        .map((it) => it.event)
    },
  })
}
