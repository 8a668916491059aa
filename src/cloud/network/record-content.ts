import { isIPv4, isIPv6 } from 'node:net'
import { CloudError } from '#lib/errors.ts'
import type { RecordData } from '#cloud/edge/edge.driver.ts'

export const RECORD_TYPES = ['A', 'AAAA', 'CNAME', 'MX', 'TXT', 'SRV'] as const
export type RecordType = (typeof RECORD_TYPES)[number]

export const CONTENT_LENGTH_MAX = 2048
export const PRIORITY_MAX = 65_535
/** Of an MX or SRV record that names none. */
export const PRIORITY_DEFAULT = 10
const NAME_LENGTH_MAX = 253
/** One of the texts that a TXT record consists of. */
const TEXT_LENGTH_MAX = 255
const LABEL = '[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?'
const NAME = new RegExp(`^${LABEL}(\\.${LABEL})*$`)
const PRINTABLE = /^[\x20-\x7e]+$/
/** Texts in quotation marks, in which a backslash takes the next character as it is. */
const QUOTED = /^("([^"\\]|\\.)*"\s*)+$/

const invalid = (field: string, message: string): CloudError => new CloudError('invalid', message, { field })

/** A DNS name in lower case without its final dot; `invalid` when it is none. */
export function dnsName(given: string, field: string): string {
  const name = given.toLowerCase().replace(/\.$/, '')
  if (name.length > NAME_LENGTH_MAX || !NAME.test(name))
    throw invalid(field, 'must be a DNS name: labels of letters, digits, - and _ with dots between')
  return name
}

/** The whole name of a record in a zone. */
export function fullName(name: string, zone: string): string {
  if (name === '@' || name === zone) return zone
  return name.endsWith(`.${zone}`) ? name : `${name}.${zone}`
}

function numbered(text: string | undefined, what: string): number {
  const value = /^\d{1,5}$/.test(text ?? '') ? Number(text) : Infinity
  if (value > PRIORITY_MAX)
    throw invalid('content', `must be "weight port target": the ${what} is a number up to ${PRIORITY_MAX}`)
  return value
}

function service(content: string, priority: number): RecordData {
  const [weight, port, target, ...more] = content.split(/\s+/)
  if (target === undefined || more.length)
    throw invalid('content', 'must be "weight port target", such as "5 5060 sip.example.internal"')
  return {
    type: 'SRV',
    data: {
      priority,
      weight: numbered(weight, 'weight'),
      port: numbered(port, 'port'),
      target: dnsName(target, 'content'),
    },
  }
}

function texts(content: string): RecordData {
  if (!PRINTABLE.test(content)) throw invalid('content', 'must be printable ASCII')
  const parts = QUOTED.test(content)
    ? [...content.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, text = '']) => text.replace(/\\(.)/g, '$1'))
    : [content]
  const short = parts.flatMap((it) => it.match(new RegExp(`.{1,${TEXT_LENGTH_MAX}}`, 'g')) ?? [''])
  return { type: 'TXT', data: short }
}

/** What a record says, in the form in which it is served; `invalid` names what is wrong with its content or priority. */
export function recordData(type: RecordType, content: string, priority?: number): RecordData {
  if (priority !== undefined && type !== 'MX' && type !== 'SRV')
    throw invalid('priority', 'is for MX and SRV records alone')
  const trimmed = content.trim()
  switch (type) {
    case 'A':
      if (!isIPv4(trimmed)) throw invalid('content', 'must be an IPv4 address')
      return { type, data: trimmed }
    case 'AAAA':
      if (!isIPv6(trimmed) || trimmed.includes('%')) throw invalid('content', 'must be an IPv6 address')
      return { type, data: trimmed }
    case 'CNAME':
      return { type, data: dnsName(trimmed, 'content') }
    case 'MX':
      return {
        type,
        data: { preference: priority ?? PRIORITY_DEFAULT, exchange: dnsName(trimmed, 'content') },
      }
    case 'SRV':
      return service(trimmed, priority ?? PRIORITY_DEFAULT)
    case 'TXT':
      return texts(content)
  }
}
