import Type, { type Static } from 'typebox'
import type { Caller } from '#cloud/access.ts'
import { record } from '#cloud/network/record.kind.ts'
import { zone, type PrivateZone } from '#cloud/network/zone.kind.ts'
import { INVALID_INPUT } from './errors.ts'
import { byIdOrName } from './lookup.ts'
import { type Frame, operation } from './operation.ts'
import { DONE_MS_MAX, type Family, listing, shown, shownDone, vpcOf } from './reads.ts'
import { IdOrName, NIL, Text, timestamp, Timestamp, Uuid } from './schema.ts'

const NAME_LENGTH_MAX = 253
const CONTENT_LENGTH_MAX = 2048
const DESCRIPTION_LENGTH_MAX = 1024

const Zone = Type.Object({
  id: Uuid,
  user_id: Uuid,
  tenant_id: Uuid,
  vpc_id: Uuid,
  name: Type.String(),
  description: Type.Optional(Type.String()),
  status: Type.Enum(['CREATING', 'ACTIVE', 'DELETING', 'FAILED']),
  default_ttl: Type.Integer({ description: 'Seconds.' }),
  powerdns_id: Type.String({ description: 'The name with its final dot; there is no PowerDNS here.' }),
  created_at: Timestamp,
  updated_at: Timestamp,
})

const STATUS = { pending: 'CREATING', active: 'ACTIVE', failed: 'FAILED' } as const

const encode = (it: PrivateZone): Static<typeof Zone> => ({
  id: it.id,
  user_id: it.spec.creator ?? NIL,
  tenant_id: it.tenant,
  vpc_id: it.spec.vpc,
  name: it.name,
  ...(it.spec.description === undefined ? {} : { description: it.spec.description }),
  status: it.deletedAt === undefined ? STATUS[it.status.state] : 'DELETING',
  default_ttl: it.spec.defaultTtlSeconds,
  powerdns_id: `${it.name}.`,
  created_at: timestamp(it.createdAt),
  updated_at: timestamp(it.updatedAt),
})

const FAMILY = {
  tag: 'DNS',
  path: '/dns/zones',
  kind: zone,
  noun: 'Zone',
  answer: Zone,
  encode: (_, all) => all.map(encode),
} satisfies Family<typeof zone.spec, typeof zone.status, typeof Zone>

const RecordType = Type.Enum(['A', 'AAAA', 'CNAME', 'MX', 'TXT', 'SRV'])
const DnsRecord = Type.Object({
  id: Uuid,
  zone_id: Uuid,
  tenant_id: Uuid,
  name: Type.String(),
  type: RecordType,
  content: Type.String(),
  ttl: Type.Integer({ description: 'Seconds.' }),
  priority: Type.Optional(Type.Integer()),
  disabled: Type.Boolean({
    description:
      'Its name leads elsewhere: to a workload of the VPC, or of an instance to a record of the same name.',
  }),
  auto_managed: Type.Boolean({ description: 'Kept for an instance, and goes with it.' }),
  instance_id: Type.Optional(Uuid),
  created_at: Timestamp,
  updated_at: Timestamp,
})

type Entry = Awaited<ReturnType<Frame['cloud']['zones']['entry']>>['entry']

const encodeRecord = (of: PrivateZone, it: Entry): Static<typeof DnsRecord> => ({
  id: it.id,
  zone_id: of.id,
  tenant_id: of.tenant,
  name: it.name,
  type: it.type,
  content: it.content,
  ttl: it.ttlSeconds,
  ...(it.priority === undefined ? {} : { priority: it.priority }),
  disabled: it.hidden,
  auto_managed: it.instance !== undefined,
  ...(it.instance === undefined ? {} : { instance_id: it.instance }),
  created_at: timestamp(it.createdAt),
  updated_at: timestamp(it.updatedAt),
})

const { tag } = FAMILY
const one = { tag, params: { id: IdOrName } }
const ofRecord = { tag, path: '/dns/records/:id', params: { id: Uuid }, refuses: [404] } as const
/** The contract has no 409 for records. */
const refusals = { conflict: INVALID_INPUT, already_exists: INVALID_INPUT }
const Ttl = Type.Optional(
  Type.Integer({ description: 'Seconds, brought between 60 and 86400; the zone’s default unless told.' }),
)
const Content = Text(CONTENT_LENGTH_MAX, {
  description:
    'An address, a name, of SRV "weight port target", of TXT a text or several in quotation marks.',
})
const Priority = Type.Optional(Type.Integer({ description: 'Of MX and SRV alone; 10 unless told.' }))

export function dnsRoutes(frame: Frame): void {
  const { cloud } = frame
  const named = async (caller: Caller, text: string): Promise<PrivateZone> =>
    await byIdOrName(cloud, caller, zone, text, FAMILY.noun)
  const shownRecord = async (caller: Caller, id: string): Promise<Static<typeof DnsRecord>> => {
    await cloud.settled(caller, record, id, DONE_MS_MAX)
    const found = await cloud.zones.entry(caller, id)
    return encodeRecord(found.zone, found.entry)
  }
  listing(frame, FAMILY, { id: 'listDnsZones', summary: 'Private zones of the tenant, oldest first' })
  operation(frame, {
    tag,
    method: 'POST',
    path: FAMILY.path,
    id: 'createDnsZone',
    summary: 'Make the private zone of a VPC',
    description: 'Its names are answered in the VPC alone; what is below it and not there does not exist.',
    body: Type.Object({
      name: Text(NAME_LENGTH_MAX),
      vpc_id: Uuid,
      description: Type.Optional(Type.String({ maxLength: DESCRIPTION_LENGTH_MAX })),
    }),
    answer: Zone,
    status: 201,
    refuses: [404, 409],
    async run({ caller, body: { name, vpc_id: within, description } }) {
      const vpc = await vpcOf(frame, caller, within)
      const made = await cloud.act(caller, 'dns.zone.create', (verbs) =>
        verbs.createZone({ name, vpc, ...(description === undefined ? {} : { description }) }),
      )
      return await shownDone(frame, FAMILY, caller, made)
    },
  })
  operation(frame, {
    ...one,
    method: 'GET',
    path: '/dns/zones/:id',
    id: 'getDnsZone',
    remembered: true,
    summary: 'Read a zone',
    answer: Zone,
    refuses: [404],
    run: async ({ caller, params }) => await shown(FAMILY, caller, await named(caller, params.id)),
  })
  operation(frame, {
    ...one,
    method: 'DELETE',
    path: '/dns/zones/:id',
    id: 'deleteDnsZone',
    summary: 'Delete a zone with its records',
    status: 204,
    refuses: [404],
    async run({ caller, params }) {
      const { id } = await named(caller, params.id)
      await cloud.act(caller, 'dns.zone.delete', (verbs) => verbs.remove(zone, id))
    },
  })
  operation(frame, {
    ...one,
    method: 'GET',
    path: '/dns/zones/:id/records',
    id: 'listDnsRecords',
    summary: 'Records of a zone, with those that are kept for instances',
    answer: Type.Array(DnsRecord),
    refuses: [404],
    async run({ caller, params }) {
      const of = await named(caller, params.id)
      return (await cloud.zones.entries(caller, of)).map((it) => encodeRecord(of, it))
    },
  })
  operation(frame, {
    ...one,
    method: 'POST',
    path: '/dns/zones/:id/records',
    id: 'createDnsRecord',
    summary: 'Make a record',
    body: Type.Object({
      name: Text(NAME_LENGTH_MAX, { description: 'Below the zone or whole; `@` is the zone itself.' }),
      type: RecordType,
      content: Content,
      ttl: Ttl,
      priority: Priority,
    }),
    answer: DnsRecord,
    status: 201,
    refuses: [404],
    refusals,
    async run({ caller, params, body: { name, type, content, ttl, priority } }) {
      const { id } = await named(caller, params.id)
      // Field by field: what else a body has is nobody's to set.
      const made = await cloud.act(caller, 'dns.record.create', (verbs) =>
        verbs.createRecord({ zone: id, name, type, content, ...changed(ttl, priority) }),
      )
      return await shownRecord(caller, made.id)
    },
  })
  operation(frame, {
    ...ofRecord,
    method: 'GET',
    id: 'getDnsRecord',
    summary: 'Read a record',
    answer: DnsRecord,
    async run({ caller, params }) {
      const found = await cloud.zones.entry(caller, params.id)
      return encodeRecord(found.zone, found.entry)
    },
  })
  operation(frame, {
    ...ofRecord,
    method: 'PUT',
    id: 'updateDnsRecord',
    summary: 'Change the content of a record, and its ttl or priority',
    body: Type.Object({ content: Content, ttl: Ttl, priority: Priority }),
    answer: DnsRecord,
    refusals,
    async run({ caller, params, body: { content, ttl, priority } }) {
      await cloud.act(caller, 'dns.record.update', (verbs) =>
        verbs.updateRecord(params.id, { content, ...changed(ttl, priority) }),
      )
      return await shownRecord(caller, params.id)
    },
  })
  operation(frame, {
    ...ofRecord,
    method: 'DELETE',
    id: 'deleteDnsRecord',
    summary: 'Delete a record',
    status: 204,
    refusals,
    async run({ caller, params }) {
      await cloud.act(caller, 'dns.record.delete', (verbs) => verbs.deleteRecord(params.id))
    },
  })
}

const changed = (ttlSeconds: number | undefined, priority: number | undefined) => ({
  ...(ttlSeconds === undefined ? {} : { ttlSeconds }),
  ...(priority === undefined ? {} : { priority }),
})
