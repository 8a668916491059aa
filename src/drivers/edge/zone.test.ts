import assert from 'node:assert/strict'
import { test } from 'node:test'
import { exampleZone } from '#cloud/edge/edge.conformance.ts'
import { RCODE, TYPE } from './wire.ts'
import { lookUp, parseZone, pointerName, serveZone } from './zone.ts'

const served = serveZone(
  exampleZone({
    names: {
      web: { a: ['10.0.1.5', '10.0.1.6'], aaaa: [] },
      'web.production.internal': { a: ['10.0.1.5', '10.0.1.6'], aaaa: [] },
      'a.b.production.internal': { a: [], aaaa: ['fd00::5'] },
      'shop.example.com': { a: ['10.0.1.7'], aaaa: [] },
    },
  }),
)

const at = (name: string) => ({ name: name ? `${name}.corp.example` : 'corp.example', ttlSeconds: 600 })
const zoned = serveZone(
  exampleZone({
    suffixes: ['corp.example', 'production.internal', 'internal'],
    records: [
      { ...at('db'), type: 'A', data: '10.9.0.1' },
      { ...at('db'), type: 'A', data: '10.9.0.2' },
      { ...at('db'), type: 'TXT', data: ['the', 'database'] },
      { ...at('six'), type: 'AAAA', data: 'fd00::9' },
      { ...at('alias'), type: 'CNAME', data: 'first.corp.example' },
      { ...at('first'), type: 'CNAME', data: 'db.corp.example' },
      { ...at('pod'), type: 'CNAME', data: 'web' },
      { ...at('gone'), type: 'CNAME', data: 'nothing.corp.example' },
      { ...at('out'), type: 'CNAME', data: 'www.example.com' },
      { ...at('round'), type: 'CNAME', data: 'about.corp.example' },
      { ...at('about'), type: 'CNAME', data: 'round.corp.example' },
      { ...at('a.deep'), type: 'A', data: '10.9.0.3' },
      { ...at(''), type: 'MX', data: { preference: 10, exchange: 'mail.corp.example' } },
      { name: 'web.production.internal', ttlSeconds: 60, type: 'TXT', data: ['of web'] },
    ],
  }),
)

const found = (name: string, type: number): unknown => {
  const it = lookUp(zoned, name, type)
  if (it.do === 'forward') return ['ask', it.name, ...it.aliases.map((one) => one.name)]
  const text = (data: unknown): unknown => (Array.isArray(data) ? data.map(String) : data)
  return [it.rcode, ...it.answers.map((one) => ('data' in one ? text(one.data) : undefined))]
}

const MX = { preference: 10, exchange: 'mail.corp.example' }
for (const [name, type, expected] of [
  ['db.corp.example', TYPE.A, [RCODE.NOERROR, '10.9.0.1', '10.9.0.2']],
  ['db.corp.example', TYPE.TXT, [RCODE.NOERROR, ['the', 'database']]],
  ['db.corp.example', TYPE.AAAA, [RCODE.NOERROR]],
  ['db.corp.example', TYPE.ANY, [RCODE.NOERROR, '10.9.0.1', '10.9.0.2', ['the', 'database']]],
  ['six.corp.example', TYPE.AAAA, [RCODE.NOERROR, 'fd00::9']],
  ['corp.example', TYPE.MX, [RCODE.NOERROR, MX]],
  ['corp.example', TYPE.A, [RCODE.NOERROR]],
  ['deep.corp.example', TYPE.A, [RCODE.NOERROR]],
  ['none.corp.example', TYPE.A, [RCODE.NXDOMAIN]],
  ['10.9.0.1', TYPE.A, ['ask', '10.9.0.1']],
  ['1.0.9.10.in-addr.arpa', TYPE.PTR, [RCODE.NXDOMAIN]],
  ['web.production.internal', TYPE.TXT, [RCODE.NOERROR, ['of web']]],
  ['web.production.internal', TYPE.A, [RCODE.NOERROR, '10.0.1.5']],
  ['alias.corp.example', TYPE.CNAME, [RCODE.NOERROR, 'first.corp.example']],
  [
    'alias.corp.example',
    TYPE.A,
    [RCODE.NOERROR, 'first.corp.example', 'db.corp.example', '10.9.0.1', '10.9.0.2'],
  ],
  ['pod.corp.example', TYPE.A, [RCODE.NOERROR, 'web', '10.0.1.5']],
  ['gone.corp.example', TYPE.A, [RCODE.NXDOMAIN, 'nothing.corp.example']],
  ['out.corp.example', TYPE.A, ['ask', 'www.example.com', 'out.corp.example']],
  ['round.corp.example', TYPE.A, [RCODE.SERVFAIL]],
] as const)
  test(`the record ${name} of type ${type}`, () => assert.deepEqual(found(name, type), expected))

test('an answer may be kept as long as its record says', () => {
  const it = lookUp(zoned, 'db.corp.example', TYPE.A)
  assert.ok(it.do === 'answer')
  assert.deepEqual(
    it.answers.map((one) => ('ttl' in one ? one.ttl : undefined)),
    [600, 600],
  )
})

const brief = (name: string, type: number): unknown => {
  const found = lookUp(served, name, type)
  if (found.do === 'forward') return 'forward'
  if (found.answers.length) return found.answers.map((it) => ('data' in it ? it.data : undefined))
  const soa = found.authorities[0]
  return `${found.rcode === RCODE.NXDOMAIN ? 'no name' : 'no data'} in ${soa?.type === 'SOA' && soa.name}`
}

for (const [name, type, expected] of [
  ['web', TYPE.A, ['10.0.1.5', '10.0.1.6']],
  ['web', TYPE.AAAA, 'no data in .'],
  ['web.production.internal', TYPE.A, ['10.0.1.5', '10.0.1.6']],
  ['web.production.internal', 16, 'no data in production.internal'],
  ['a.b.production.internal', TYPE.AAAA, ['fd00::5']],
  ['a.b.production.internal', TYPE.ANY, ['fd00::5']],
  ['b.production.internal', TYPE.A, 'no data in production.internal'],
  ['c.production.internal', TYPE.A, 'no name in production.internal'],
  ['production.internal', TYPE.SOA, 'no data in production.internal'],
  ['internal', TYPE.A, 'no data in .'],
  ['nothing', TYPE.A, 'no name in .'],
  ['constructor', TYPE.A, 'no name in .'],
  ['shop.example.com', TYPE.A, ['10.0.1.7']],
  ['example.com', TYPE.A, 'forward'],
  ['otherproduction.internal', TYPE.A, 'forward'],
  ['www.example.com', TYPE.A, 'forward'],
  ['', TYPE.NS, 'forward'],
  ['5.1.0.10.in-addr.arpa', TYPE.PTR, ['web.production.internal']],
  ['5.1.0.10.in-addr.arpa', TYPE.A, 'no data in .'],
  ['9.1.0.10.in-addr.arpa', TYPE.PTR, 'no name in .'],
  ['1.1.168.192.in-addr.arpa', TYPE.PTR, 'no name in .'],
  ['1.1.31.172.in-addr.arpa', TYPE.PTR, 'no name in .'],
  ['1.1.32.172.in-addr.arpa', TYPE.PTR, 'forward'],
  ['1.0.112.100.in-addr.arpa', TYPE.PTR, 'no name in .'],
  ['1.1.1.1.in-addr.arpa', TYPE.PTR, 'forward'],
  [pointerName('fd00::5'), TYPE.PTR, ['a.b.production.internal']],
  [pointerName('fd00::6'), TYPE.PTR, 'no name in .'],
  [pointerName('fe80::1'), TYPE.PTR, 'no name in .'],
  [pointerName('2001:db8::1'), TYPE.PTR, 'forward'],
] as const) {
  test(`${name || 'the root'} of type ${type}`, () => assert.deepEqual(brief(name, type), expected))
}

test('addresses turn round', () => {
  assert.equal(pointerName('10.0.1.5'), '5.1.0.10.in-addr.arpa')
  const zeros = '0.'.repeat(15)
  assert.equal(pointerName('fd12:0:0::5'), `5.0.0.0.${'0.'.repeat(20)}0.0.0.0.2.1.d.f.ip6.arpa`)
  assert.equal(pointerName('::1').slice(2), `${zeros}${zeros}0.ip6.arpa`)
})

for (const [what, broken] of [
  ['no object', 'zone'],
  ['a path for a VPC', exampleZone({ vpc: '../etc' })],
  ['a negative generation', exampleZone({ generation: -1 })],
  ['a name in upper case', exampleZone({ names: { Web: { a: [], aaaa: [] } } })],
  ['an empty label', exampleZone({ names: { 'a..b': { a: [], aaaa: [] } } })],
  ['the wrong family', exampleZone({ names: { web: { a: ['fd00::1'], aaaa: [] } } })],
  ['a record of the wrong family', exampleZone({ records: [{ ...at('x'), type: 'A', data: 'fd00::1' }] })],
  ['a record of no type', exampleZone({ records: [{ ...at('x'), type: 'NS' as 'A', data: 'x.example' }] })],
  ['a text of lines', exampleZone({ records: [{ ...at('x'), type: 'TXT', data: ['a\nb'] }] })],
  ['an alias of no name', exampleZone({ records: [{ ...at('x'), type: 'CNAME', data: 'a b' }] })],
  ['no address', exampleZone({ callers: ['somewhere'] })],
  ['a host for a nameserver', exampleZone({ nameservers: ['dns.example'] })],
  ['an unknown field', { ...exampleZone(), color: 'red' }],
] as const) {
  test(`a zone with ${what} is refused`, () => assert.throws(() => parseZone(broken), { code: 'invalid' }))
}
