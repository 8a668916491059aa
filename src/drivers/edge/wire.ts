import { type Answer, decode, encode } from 'dns-packet'

// A strict reader of our own, since every byte it sees comes from tenants: it allocates nothing on the word of a
// header, follows no compression pointer and keeps the question's bytes as they are. Answers are written by dns-packet.

export const TYPE = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  AXFR: 252,
  IXFR: 251,
  ANY: 255,
} as const
export const CLASS_IN = 1
export const RCODE = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  /** Carried in the OPT record; its low four bits are zero. */
  BADVERS: 16,
} as const

export const HEADER_BYTES = 12
const NAME_BYTES_MAX = 255
/** Largest answer by UDP without EDNS. */
const PLAIN_BYTES_MAX = 512
/** Largest answer by UDP that crosses every link in one piece. */
const EDNS_BYTES_MAX = 1232
const TCP_BYTES_MAX = 65_535

export const FLAG = {
  QR: 0x8000,
  AA: 0x0400,
  TC: 0x0200,
  RD: 0x0100,
  RA: 0x0080,
  AD: 0x0020,
  CD: 0x0010,
} as const
const OPCODE_SHIFT = 11

export type Question = {
  /** Lower case without the final dot; bytes that are no plain character of a name as `\ddd`. The root is empty. */
  readonly name: string
  readonly type: number
  readonly class: number
  /** The section as it was sent. */
  readonly bytes: Buffer
}

/** A question of class IN about a name in plain characters. */
export function questionOf(name: string, type: number): Question {
  const labels = name.split('.').flatMap((it) => [Buffer.from([it.length]), Buffer.from(it, 'latin1')])
  const end = Buffer.alloc(5)
  end.writeUInt16BE(type, 1)
  end.writeUInt16BE(CLASS_IN, 3)
  return { name, type, class: CLASS_IN, bytes: Buffer.concat([...labels, end]) }
}

export type WireRecord = {
  readonly section: 'answer' | 'authority' | 'additional'
  readonly type: number
  readonly class: number
  readonly ttl: number
  /** Where its TTL stands in the message. */
  readonly ttlAt: number
  readonly data: Buffer
}

export type Message = {
  readonly id: number
  readonly flags: number
  readonly opcode: number
  readonly rcode: number
  readonly isResponse: boolean
  readonly questions: readonly Question[]
  readonly records: readonly WireRecord[]
}

/** What can be read of any message: enough to refuse one that is broken. Undefined when it is shorter than a header. */
export function readHeader(buffer: Buffer): Omit<Message, 'questions' | 'records'> | undefined {
  if (buffer.length < HEADER_BYTES) return undefined
  const flags = buffer.readUInt16BE(2)
  return {
    id: buffer.readUInt16BE(0),
    flags,
    opcode: (flags >> OPCODE_SHIFT) & 0xf,
    rcode: flags & 0xf,
    isResponse: (flags & FLAG.QR) !== 0,
  }
}

/** The offset after a name; undefined when it does not end within the message or is no name. */
function skipName(buffer: Buffer, from: number, pointers: boolean): number | undefined {
  let at = from
  while (at - from < NAME_BYTES_MAX) {
    const length = buffer[at]
    if (length === undefined) return undefined
    if (length === 0) return at + 1
    if (length >= 0xc0) return pointers && at + 2 <= buffer.length ? at + 2 : undefined
    if (length >= 0x40) return undefined
    at += length + 1
  }
  return undefined
}

function nameText(buffer: Buffer, from: number): string {
  const labels: string[] = []
  for (let at = from, length = buffer[at] ?? 0; length; at += length + 1, length = buffer[at] ?? 0) {
    let label = ''
    for (const byte of buffer.subarray(at + 1, at + 1 + length)) {
      const plain = byte > 0x20 && byte < 0x7f && byte !== 0x2e && byte !== 0x5c
      label += plain ? String.fromCharCode(byte).toLowerCase() : `\\${String(byte).padStart(3, '0')}`
    }
    labels.push(label)
  }
  return labels.join('.')
}

/** The whole message; undefined when its bytes are not what its header promises. */
export function readMessage(buffer: Buffer): Message | undefined {
  const header = readHeader(buffer)
  if (!header) return undefined
  let at = HEADER_BYTES
  const questions: Question[] = []
  for (let left = buffer.readUInt16BE(4); left > 0; left--) {
    const end = skipName(buffer, at, false)
    if (end === undefined || end + 4 > buffer.length) return undefined
    const bytes = buffer.subarray(at, end + 4)
    questions.push({
      name: nameText(buffer, at),
      type: buffer.readUInt16BE(end),
      class: buffer.readUInt16BE(end + 2),
      bytes,
    })
    at = end + 4
  }
  const records: WireRecord[] = []
  for (const [section, counter] of [
    ['answer', 6],
    ['authority', 8],
    ['additional', 10],
  ] as const) {
    for (let left = buffer.readUInt16BE(counter); left > 0; left--) {
      const end = skipName(buffer, at, true)
      if (end === undefined || end + 10 > buffer.length) return undefined
      const dataAt = end + 10
      at = dataAt + buffer.readUInt16BE(end + 8)
      if (at > buffer.length) return undefined
      records.push({
        section,
        type: buffer.readUInt16BE(end),
        class: buffer.readUInt16BE(end + 2),
        ttl: buffer.readUInt32BE(end + 4),
        ttlAt: end + 4,
        data: buffer.subarray(dataAt, at),
      })
    }
  }
  return { ...header, questions, records }
}

export type Edns = { readonly sizeMax: number; readonly version: number; readonly dnssec: boolean }

/** What the sender's OPT record says; `none` without one, `many` when there is more than one, which is an error. */
export function ednsOf(message: Message): Edns | 'none' | 'many' {
  const [record, ...more] = message.records.filter((it) => it.type === TYPE.OPT)
  if (!record) return 'none'
  if (more.length) return 'many'
  return { sizeMax: record.class, version: (record.ttl >> 16) & 0xff, dnssec: (record.ttl & 0x8000) !== 0 }
}

/** A query that is fit to be answered. */
export type Query = {
  readonly id: number
  readonly flags: number
  readonly question: Question
  readonly edns: Edns | undefined
  /** Longest answer that the way back takes. */
  readonly sizeMax: number
}

export function sizeMaxOf(edns: Edns | undefined, transport: 'udp' | 'tcp'): number {
  if (transport === 'tcp') return TCP_BYTES_MAX
  return edns ? Math.min(Math.max(edns.sizeMax, PLAIN_BYTES_MAX), EDNS_BYTES_MAX) : PLAIN_BYTES_MAX
}

const optFor = (extendedRcode: number, dnssec: boolean): Answer => ({
  type: 'OPT',
  name: '.',
  udpPayloadSize: EDNS_BYTES_MAX,
  extendedRcode,
  ednsVersion: 0,
  flags: dnssec ? 0x8000 : 0,
  flag_do: dnssec,
  options: [],
})

/** Answers with a header alone: all there can be when the question could not be read. */
export function refuse(id: number, opcode: number, rcode: number): Buffer {
  const buffer = Buffer.alloc(HEADER_BYTES)
  buffer.writeUInt16BE(id, 0)
  buffer.writeUInt16BE(FLAG.QR | (opcode << OPCODE_SHIFT) | rcode, 2)
  return buffer
}

export type Reply = {
  readonly rcode: number
  readonly authoritative: boolean
  /** Whether this caller may have other names looked up. */
  readonly recursive: boolean
  readonly answers: readonly Answer[]
  readonly authorities: readonly Answer[]
}

/** The answer in bytes, with the question as it was asked; without records and marked truncated when it is too long. */
export function writeReply(query: Query, reply: Reply): Buffer {
  const flags =
    (query.flags & (FLAG.RD | FLAG.CD)) |
    (reply.authoritative ? FLAG.AA : 0) |
    (reply.recursive ? FLAG.RA : 0) |
    (reply.rcode & 0xf)
  const written = encode({
    type: 'response',
    id: query.id,
    flags,
    answers: [...reply.answers],
    authorities: [...reply.authorities],
    additionals: query.edns ? [optFor(reply.rcode >> 4, query.edns.dnssec)] : [],
  })
  // dns-packet does not compress, so bytes can be put between the header and what follows.
  const whole = Buffer.concat([
    written.subarray(0, HEADER_BYTES),
    query.question.bytes,
    written.subarray(HEADER_BYTES),
  ])
  whole.writeUInt16BE(1, 4)
  if (whole.length <= query.sizeMax) return whole
  const short = writeReply(query, { ...reply, answers: [], authorities: [] })
  short.writeUInt16BE(short.readUInt16BE(2) | FLAG.TC, 2)
  return short
}

/** The query as it goes to another resolver: our id, only what concerns the question, EDNS when the asker has it. */
export function writeForward(query: Query, id: number): Buffer {
  const flags = query.flags & (FLAG.RD | FLAG.AD | FLAG.CD)
  const opt = query.edns ? [optFor(0, query.edns.dnssec)] : []
  const written = encode({ type: 'query', id, flags, additionals: opt })
  const whole = Buffer.concat([
    written.subarray(0, HEADER_BYTES),
    query.question.bytes,
    written.subarray(HEADER_BYTES),
  ])
  whole.writeUInt16BE(1, 4)
  return whole
}

const lower = (bytes: Buffer): string => bytes.toString('latin1').toLowerCase()

/** Whether two question sections ask the same; case does not count. */
export const sameQuestion = (a: Question, b: Question): boolean =>
  a.type === b.type && a.class === b.class && lower(a.bytes) === lower(b.bytes)

/** Of another resolver's answer its code, and the records that are aliases or of this type; undefined when it cannot be read. */
export function answersIn(
  answer: Buffer,
  type: number,
): { readonly rcode: number; readonly answers: readonly Answer[] } | undefined {
  try {
    const wanted = (decode(answer).answers ?? []).filter(
      (it) => it.type === 'CNAME' || TYPE[it.type as keyof typeof TYPE] === type,
    )
    return { rcode: answer.readUInt16BE(2) & 0xf, answers: wanted }
  } catch {
    return undefined
  }
}

/** Another resolver's answer as the answer to this query: its id, the spelling of its question, cut to its size. */
export function adopt(query: Query, answer: Buffer): Buffer {
  const end = HEADER_BYTES + query.question.bytes.length
  const flags =
    (answer.readUInt16BE(2) & ~(FLAG.AA | FLAG.RD | FLAG.CD)) | (query.flags & (FLAG.RD | FLAG.CD)) | FLAG.RA
  if (answer.length > query.sizeMax) {
    const reply = { rcode: flags & 0xf, authoritative: false, recursive: true, answers: [], authorities: [] }
    const short = writeReply(query, reply)
    short.writeUInt16BE(short.readUInt16BE(2) | FLAG.TC, 2)
    return short
  }
  const own = Buffer.from(answer)
  own.writeUInt16BE(query.id, 0)
  own.writeUInt16BE(flags, 2)
  query.question.bytes.copy(own, HEADER_BYTES, 0, end - HEADER_BYTES)
  return own
}
