import type { Answer } from 'dns-packet'
import type { Clock } from '#lib/clock.ts'
import { createCache } from './cache.ts'
import { createForwarder } from './forward.ts'
import type { Table } from './table.ts'
import {
  answersIn,
  CLASS_IN,
  ednsOf,
  FLAG,
  type Query,
  questionOf,
  RCODE,
  readHeader,
  readMessage,
  refuse,
  type Reply,
  sizeMaxOf,
  TYPE,
  writeReply,
} from './wire.ts'
import { lookUp } from './zone.ts'

export type ResolverLimits = {
  /** Questions of all callers that wait for other resolvers. */
  readonly inFlightMax: number
  readonly perCallerMax: number
  readonly cacheEntriesMax: number
  /** Time for one of the three attempts; together they end before a C library gives up on us (5 s) and asks again. */
  readonly attemptMsMax: number
}
export const RESOLVER_LIMITS: ResolverLimits = {
  inFlightMax: 512,
  perCallerMax: 32,
  cacheEntriesMax: 4096,
  attemptMsMax: 1400,
}

export type Resolver = {
  /**
   * The answer to one message of `caller`, an address. Undefined when there is none to give: it is no query at all.
   * Never throws for anything the message holds.
   */
  answer(message: Buffer, caller: string, transport: 'udp' | 'tcp'): Promise<Buffer | undefined>
  close(): void
}

const OPCODE_QUERY = 0

/** The query a message holds, or the bytes that refuse it; undefined when no answer is due. */
function readQuery(bytes: Buffer, transport: 'udp' | 'tcp'): Query | Buffer | undefined {
  const header = readHeader(bytes)
  if (!header || header.isResponse) return undefined // to answer an answer may go on for ever
  const refused = (rcode: number): Buffer => refuse(header.id, header.opcode, rcode)
  if (header.opcode !== OPCODE_QUERY) return refused(RCODE.NOTIMP)
  const message = readMessage(bytes)
  const [question, ...more] = message?.questions ?? []
  if (!message || !question || more.length) return refused(RCODE.FORMERR)
  if (message.records.some((it) => it.section !== 'additional')) return refused(RCODE.FORMERR)
  const opt = ednsOf(message)
  if (opt === 'many') return refused(RCODE.FORMERR)
  const edns = opt === 'none' ? undefined : opt
  const { id, flags } = header
  return { id, flags, question, edns, sizeMax: sizeMaxOf(edns, transport) }
}

/** Answers for every VPC: its own names from the table, others from the resolvers it may ask. */
export function createResolver(options: {
  readonly table: Pick<Table, 'zoneOf'>
  readonly hostNameservers: () => readonly string[]
  readonly clock: Clock
  readonly limits?: ResolverLimits
  /** Port of other resolvers. */
  readonly nameserverPort?: number
  /** Our own address, which is never asked. */
  readonly self?: string
}): Resolver {
  const { table, limits = RESOLVER_LIMITS } = options
  const cache = createCache(options.clock, limits.cacheEntriesMax)
  const forwarder = createForwarder({ cache, port: options.nameserverPort ?? 53, ...limits })

  const nothing = { authoritative: false, recursive: false, answers: [], authorities: [] }
  const bare = (query: Query, rcode: number, more: Partial<Reply> = {}): Buffer =>
    writeReply(query, { ...nothing, rcode, ...more })

  const ask = async (
    caller: string,
    query: Query,
    nameservers: readonly string[],
  ): Promise<Buffer | undefined> => {
    const given = nameservers.length ? nameservers : options.hostNameservers()
    const others = given.filter((it) => it !== options.self)
    return await forwarder.ask(caller, query, others)
  }

  const forward = async (caller: string, query: Query, nameservers: readonly string[]): Promise<Buffer> => {
    if (!(query.flags & FLAG.RD)) return bare(query, RCODE.REFUSED, { recursive: true })
    return (await ask(caller, query, nameservers)) ?? bare(query, RCODE.SERVFAIL, { recursive: true })
  }

  /** The answer to a name of the VPC that is another's by aliases: a C library does not ask for that itself. */
  const forwardAlias = async (
    caller: string,
    query: Query,
    nameservers: readonly string[],
    { name, aliases }: { readonly name: string; readonly aliases: readonly Answer[] },
  ): Promise<Buffer> => {
    if (!(query.flags & FLAG.RD)) return bare(query, RCODE.NOERROR, { recursive: true, answers: aliases })
    const { type } = query.question
    const aliased = {
      ...query,
      question: questionOf(name, type),
      edns: undefined,
      sizeMax: sizeMaxOf(undefined, 'tcp'),
    }
    const answer = await ask(caller, aliased, nameservers)
    const told = answer && answersIn(answer, type)
    if (!told) return bare(query, RCODE.SERVFAIL, { recursive: true })
    return bare(query, told.rcode, { recursive: true, answers: [...aliases, ...told.answers] })
  }

  return {
    async answer(bytes, caller, transport) {
      const query = readQuery(bytes, transport)
      if (query === undefined || Buffer.isBuffer(query)) return query
      const { question, edns } = query
      if (edns && edns.version > 0) return bare(query, RCODE.BADVERS)
      const served = table.zoneOf(caller)
      const transfer = question.type === TYPE.AXFR || question.type === TYPE.IXFR
      if (!served || question.class !== CLASS_IN || transfer || question.type === TYPE.OPT)
        return bare(query, RCODE.REFUSED)
      const { zone } = served
      const found = lookUp(served, question.name, question.type)
      if (found.do === 'answer')
        return writeReply(query, { ...found, authoritative: true, recursive: zone.forward })
      // A VPC without internet: names outside do not exist for it. REFUSED would be a fault of the server to a C library,
      // which then waits, asks again and reports a failure that may pass. Without a SOA nobody keeps it, so that
      // switching internet on works at once.
      const { aliases } = found
      if (!zone.forward) return bare(query, RCODE.NXDOMAIN, { answers: aliases })
      if (aliases.length) return forwardAlias(caller, query, zone.nameservers, found)
      return forward(caller, query, zone.nameservers)
    },
    close: () => forwarder.close(),
  }
}
