import type { Answer, StringAnswer } from 'dns-packet'
import { isIPv4, isIPv6 } from 'node:net'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { CloudError } from '#lib/errors.ts'
import type { Zone } from '#cloud/edge/edge.driver.ts'
import { RCODE, TYPE } from './wire.ts'

/** How long anybody may keep an answer about a name of a VPC: names follow deploys within seconds. */
export const ZONE_TTL_SECONDS = 5
const NAMES_MAX = 20_000
const RECORDS_MAX = 20_000
/** Aliases that one answer follows, one after the other. */
const ALIASES_MAX = 8
const CALLERS_MAX = 65_536
const ADDRESSES_MAX = 256
const NAMESERVERS_MAX = 16
const SUFFIXES_MAX = 64
const ANSWERS_MAX = 64

const LABEL = '[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?'
const NAME = new RegExp(`^${LABEL}(\\.${LABEL})*$`)
const NAME_CHARS_MAX = 253
const Name = Type.String({ pattern: NAME.source, maxLength: NAME_CHARS_MAX })
const Number16 = Type.Integer({ minimum: 0, maximum: 65_535 })
const closed = { additionalProperties: false }
const common = { name: Name, ttlSeconds: Type.Integer({ minimum: 0, maximum: 86_400 }) }
const RecordSchema = Type.Union([
  Type.Object({ ...common, type: Type.Enum(['A', 'AAAA']), data: Type.String({ maxLength: 45 }) }, closed),
  Type.Object({ ...common, type: Type.Literal('CNAME'), data: Name }, closed),
  Type.Object(
    {
      ...common,
      type: Type.Literal('MX'),
      data: Type.Object({ preference: Number16, exchange: Name }, closed),
    },
    closed,
  ),
  Type.Object(
    {
      ...common,
      type: Type.Literal('SRV'),
      data: Type.Object({ priority: Number16, weight: Number16, port: Number16, target: Name }, closed),
    },
    closed,
  ),
  Type.Object(
    {
      ...common,
      type: Type.Literal('TXT'),
      data: Type.Array(Type.String({ maxLength: 255, pattern: '^[\\x20-\\x7e]*$' }), { maxItems: 16 }),
    },
    closed,
  ),
])
const Addresses = Type.Array(Type.String({ maxLength: 45 }), { maxItems: ADDRESSES_MAX })
const ZoneSchema = Type.Object(
  {
    vpc: Type.String({ pattern: '^[A-Za-z0-9_-]{1,64}$' }),
    generation: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
    callers: Type.Array(Type.String({ maxLength: 45 }), { maxItems: CALLERS_MAX }),
    names: Type.Record(
      Type.String(),
      Type.Object({ a: Addresses, aaaa: Addresses }, { additionalProperties: false }),
    ),
    records: Type.Optional(Type.Array(RecordSchema, { maxItems: RECORDS_MAX })),
    suffixes: Type.Array(Name, { maxItems: SUFFIXES_MAX }),
    nameservers: Type.Array(Type.String({ maxLength: 45 }), { maxItems: NAMESERVERS_MAX }),
    forward: Type.Boolean(),
  },
  { additionalProperties: false },
)
const checkShape = Compile(ZoneSchema)

const isAddress = (text: string): boolean => isIPv4(text) || isIPv6(text)
const invalid = (what: string, field: string): CloudError => new CloudError('invalid', what, { field })

/** Checks a zone that came from outside this process; throws `invalid` naming what is wrong. */
export function parseZone(value: unknown): Zone {
  if (!checkShape.Check(value)) {
    const [first] = checkShape.Errors(value)
    const field = first ? first.instancePath.slice(1).replaceAll('/', '.') : ''
    throw invalid(`zone: ${first?.message ?? 'wrong shape'}`, field)
  }
  const names = Object.entries(value.names)
  if (names.length > NAMES_MAX) throw invalid(`a zone has at most ${NAMES_MAX} names`, 'names')
  for (const [name, { a, aaaa }] of names) {
    if (name.length > NAME_CHARS_MAX || !NAME.test(name))
      throw invalid(`not a name in lower case: ${name.slice(0, 80)}`, 'names')
    if (!a.every(isIPv4) || !aaaa.every(isIPv6))
      throw invalid(`${name} has an address of the wrong family`, 'names')
  }
  for (const { name, type, data } of value.records ?? [])
    if ((type === 'A' && !isIPv4(data)) || (type === 'AAAA' && !isIPv6(data)))
      throw invalid(`${name} has an address of the wrong family`, 'records')
  if (!value.callers.every(isAddress)) throw invalid('a caller is not an address', 'callers')
  if (!value.nameservers.every(isAddress)) throw invalid('a nameserver is not an address', 'nameservers')
  return value
}

/** The name under which an address is looked up backwards. */
export function pointerName(address: string): string {
  if (isIPv4(address)) return `${address.split('.').toReversed().join('.')}.in-addr.arpa`
  const url = new URL(`http://[${address}]`).hostname.slice(1, -1) // the shortest spelling, all in hexadecimal
  const [head = '', tail] = url.split('::')
  const front = head.split(':').filter(Boolean)
  const back = tail?.split(':').filter(Boolean) ?? []
  const groups = [...front, ...Array.from({ length: 8 - front.length - back.length }, () => '0'), ...back]
  const nibbles = groups.map((it) => it.padStart(4, '0')).join('')
  return `${nibbles.split('').toReversed().join('.')}.ip6.arpa`
}

// Addresses that mean something only where they are used: nobody outside is asked whose they are, so that a VPC learns
// nothing about the host's own networks.
const PRIVATE_POINTERS = new RegExp(
  String.raw`(^|\.)(10|127|(1[6-9]|2\d|3[01])\.172|168\.192|254\.169|(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.100)\.in-addr\.arpa$` +
    String.raw`|(^|\.)([cd]\.f|[89ab]\.e\.f)\.ip6\.arpa$|^1(\.0){31}\.ip6\.arpa$`,
)

/** A zone made ready to answer from. */
export type ServedZone = {
  readonly zone: Zone
  /** Answers from its records, by name. */
  readonly records: ReadonlyMap<string, readonly Answer[]>
  /** Names that exist only because others are below them: known, but without records. */
  readonly between: ReadonlySet<string>
  /** Name for looking backwards → name. */
  readonly pointers: ReadonlyMap<string, string>
}

/** Every name above `name`, nearest first, without the root. */
function* above(name: string): Generator<string> {
  for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1)) yield name.slice(dot + 1)
}

export function serveZone(zone: Zone): ServedZone {
  const records = new Map<string, Answer[]>()
  for (const { ttlSeconds, ...it } of zone.records ?? []) {
    const here = records.get(it.name) ?? []
    // dns-packet turns the texts of an array into bytes where they are.
    const data = it.type === 'TXT' ? it.data.map((text) => Buffer.from(text)) : it.data
    records.set(it.name, [...here, { ...it, data, ttl: ttlSeconds } as Answer])
  }
  const between = new Set(zone.suffixes)
  for (const name of [...Object.keys(zone.names), ...records.keys(), ...zone.suffixes])
    for (const it of above(name)) between.add(it)
  const pointers = new Map<string, string>()
  for (const [name, { a, aaaa }] of Object.entries(zone.names)) {
    for (const address of [...a, ...aaaa]) {
      const pointer = pointerName(address)
      // The longest spelling says most: `web.production.internal` rather than `web`.
      if (name.length > (pointers.get(pointer)?.length ?? 0)) pointers.set(pointer, name)
    }
  }
  return { zone, records, between, pointers }
}

export type Found =
  | {
      readonly do: 'answer'
      readonly rcode: number
      readonly answers: readonly Answer[]
      readonly authorities: readonly Answer[]
    }
  /** The VPC knows nothing of this name, which these aliases led to: ask outside, if it may. */
  | { readonly do: 'forward'; readonly name: string; readonly aliases: readonly Answer[] }

const ttl = ZONE_TTL_SECONDS

function negative(served: ServedZone, owner: string, rcode: number): Found {
  const at = owner || 'invalid' // the root has no server of ours to name
  const soa: Answer = {
    type: 'SOA',
    name: owner || '.',
    ttl,
    data: {
      mname: `ns.${at}`,
      rname: `hostmaster.${at}`,
      serial: served.zone.generation % 2 ** 32,
      refresh: 3600,
      retry: 600,
      expire: 86_400,
      minimum: ttl,
    },
  }
  return { do: 'answer', rcode, answers: [], authorities: [soa] }
}

const positive = (answers: readonly Answer[]): Found => ({
  do: 'answer',
  rcode: RCODE.NOERROR,
  answers: answers.slice(0, ANSWERS_MAX),
  authorities: [],
})

/**
 * What a VPC's own names say to a question of class IN. `name` is in lower case without a final dot.
 * A name of the zone is answered, an alias with what it leads to; one of a single label or below a suffix that is not there does not exist; any other
 * is somebody else's.
 */
export function lookUp(served: ServedZone, name: string, type: number): Found {
  return followed(served, name, type, [])
}

/** The answer to a name that `aliases` led to. */
function followed(served: ServedZone, name: string, type: number, aliases: readonly Answer[]): Found {
  const records = served.records.get(name) ?? []
  const alias = records.find((it): it is StringAnswer => it.type === 'CNAME')
  if (alias && type !== TYPE.CNAME && type !== TYPE.ANY) {
    const led = [...aliases, alias]
    if (led.length <= ALIASES_MAX) return followed(served, alias.data, type, led)
    return { do: 'answer', rcode: RCODE.SERVFAIL, answers: [], authorities: [] }
  }
  const found = recorded(served, name, type, records)
  if (found.do === 'forward') return { ...found, aliases }
  return { ...found, answers: [...aliases, ...found.answers] }
}

function recorded(served: ServedZone, name: string, type: number, records: readonly Answer[]): Found {
  const { zone } = served
  const suffix = zone.suffixes.find((it) => name === it || name.endsWith(`.${it}`))
  const known = Object.hasOwn(zone.names, name) ? zone.names[name] : undefined
  if (known || records.length) {
    const answers = records.filter((it) => type === TYPE.ANY || TYPE[it.type as keyof typeof TYPE] === type)
    if (type === TYPE.A || type === TYPE.ANY)
      answers.push(...(known?.a ?? []).map((data) => ({ type: 'A', name, ttl, data }) as const))
    if (type === TYPE.AAAA || type === TYPE.ANY)
      answers.push(...(known?.aaaa ?? []).map((data) => ({ type: 'AAAA', name, ttl, data }) as const))
    return answers.length ? positive(answers) : negative(served, suffix ?? '', RCODE.NOERROR)
  }
  const pointer = served.pointers.get(name)
  if (pointer !== undefined) {
    if (type === TYPE.PTR || type === TYPE.ANY) return positive([{ type: 'PTR', name, ttl, data: pointer }])
    return negative(served, '', RCODE.NOERROR)
  }
  if (suffix !== undefined || (name && !name.includes('.'))) {
    const exists = served.between.has(name)
    return negative(served, suffix ?? '', exists ? RCODE.NOERROR : RCODE.NXDOMAIN)
  }
  return PRIVATE_POINTERS.test(name)
    ? negative(served, '', RCODE.NXDOMAIN)
    : { do: 'forward', name, aliases: [] }
}
