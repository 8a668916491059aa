import type { Clock } from '#lib/clock.ts'
import { RCODE, readMessage, TYPE } from './wire.ts'

const TTL_SECONDS_MAX = 3600
/** Answers longer than this are asked for again each time, so that entries bound memory. */
const ANSWER_BYTES_MAX = 4096

type Entry = {
  readonly answer: Buffer
  readonly at: number
  readonly untilMs: number
  readonly ttls: readonly number[]
}

/** Answers of other resolvers for as long as they allow. */
export type Cache = {
  /** A copy with its TTLs lowered by its age. */
  get(key: string): Buffer | undefined
  put(key: string, answer: Buffer): void
}

/** Seconds an answer may be kept: its smallest TTL; for one without records what its SOA says of that, or not at all. */
function secondsOf(answer: Buffer): { seconds: number; ttls: number[] } | undefined {
  const message = readMessage(answer)
  if (!message || (message.rcode !== RCODE.NOERROR && message.rcode !== RCODE.NXDOMAIN)) return undefined
  const records = message.records.filter((it) => it.type !== TYPE.OPT)
  let seconds = Math.min(TTL_SECONDS_MAX, ...records.map((it) => it.ttl))
  if (!records.some((it) => it.section === 'answer')) {
    const soa = records.find((it) => it.section === 'authority' && it.type === TYPE.SOA)
    if (!soa || soa.data.length < 20) return undefined
    seconds = Math.min(seconds, soa.data.readUInt32BE(soa.data.length - 4))
  }
  return { seconds, ttls: records.map((it) => it.ttlAt) }
}

/** The oldest entry leaves when there are `entriesMax`. */
export function createCache(clock: Clock, entriesMax: number): Cache {
  const entries = new Map<string, Entry>()
  return {
    get(key) {
      const entry = entries.get(key)
      if (!entry) return undefined
      const now = clock.now()
      if (now >= entry.untilMs || now < entry.at) {
        entries.delete(key)
        return undefined
      }
      const age = Math.floor((now - entry.at) / 1000)
      const answer = Buffer.from(entry.answer)
      for (const at of entry.ttls) answer.writeUInt32BE(Math.max(0, answer.readUInt32BE(at) - age), at)
      return answer
    },
    put(key, answer) {
      if (answer.length > ANSWER_BYTES_MAX) return
      const kept = secondsOf(answer)
      if (!kept?.seconds) return
      entries.delete(key)
      const [oldest] = entries.keys()
      if (oldest !== undefined && entries.size >= entriesMax) entries.delete(oldest)
      const at = clock.now()
      entries.set(key, {
        answer: Buffer.from(answer),
        at,
        untilMs: at + kept.seconds * 1000,
        ttls: kept.ttls,
      })
    },
  }
}
