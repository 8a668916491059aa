import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { dnsName, fullName, recordData, type RecordType } from './record-content.ts'

test('contents of each type', () => {
  const of = (type: RecordType, content: string, priority?: number) =>
    recordData(type, content, priority).data
  assert.equal(of('A', ' 10.0.1.5 '), '10.0.1.5')
  assert.equal(of('AAAA', 'fd00::5'), 'fd00::5')
  assert.equal(of('CNAME', 'WWW.Example.com.'), 'www.example.com')
  assert.deepEqual(of('MX', 'mail.example.com.'), { preference: 10, exchange: 'mail.example.com' })
  assert.deepEqual(of('MX', 'mail', 0), { preference: 0, exchange: 'mail' })
  assert.deepEqual(of('SRV', '5 5060 sip.example.com', 1), {
    priority: 1,
    weight: 5,
    port: 5060,
    target: 'sip.example.com',
  })
  assert.deepEqual(of('TXT', 'v=spf1 -all'), ['v=spf1 -all'])
  assert.deepEqual(of('TXT', '"one" "t\\"w;o\\\\"'), ['one', 't"w;o\\'])
})

const wrong: readonly (readonly [RecordType, string, number?])[] = [
  ['A', 'fd00::5'],
  ['A', '10.0.1'],
  ['A', '10.0.1.5', 10],
  ['AAAA', '10.0.1.5'],
  ['AAAA', 'fe80::1%eth0'],
  ['CNAME', 'two words'],
  ['CNAME', '-a.example'],
  ['MX', '10 mail.example.com'],
  ['SRV', '5060 sip.example.com'],
  ['SRV', '1 5 5060 sip.example.com'],
  ['SRV', '5 65536 sip.example.com'],
  ['TXT', 'naïve'],
  ['TXT', 'two\nlines'],
]
for (const [type, content, priority] of wrong)
  test(`${type} ${JSON.stringify(content)} is refused`, () =>
    assert.throws(() => recordData(type, content, priority), { code: 'invalid' }))

test('a long text is served whole, in pieces that fit', () => {
  const printable = fc.string({
    unit: fc.constantFrom('a', 'b', ' ', '"', '\\', ';'),
    minLength: 1,
    maxLength: 600,
  })
  fc.assert(
    fc.property(printable, (text) => {
      const quoted = `"${text.replace(/["\\]/g, '\\$&')}"`
      const { data } = recordData('TXT', quoted)
      assert.ok(Array.isArray(data) && data.every((it: string) => it.length <= 255))
      assert.equal((data as string[]).join(''), text)
    }),
  )
})

test('names are whole or below the zone', () => {
  for (const [name, whole] of [
    ['@', 'corp.example'],
    ['corp.example', 'corp.example'],
    ['www', 'www.corp.example'],
    ['a.b', 'a.b.corp.example'],
    ['www.corp.example', 'www.corp.example'],
    ['xcorp.example', 'xcorp.example.corp.example'],
  ] as const)
    assert.equal(fullName(name, 'corp.example'), whole)
  assert.equal(dnsName('_SIP._tcp.', 'name'), '_sip._tcp')
  for (const bad of ['', '.', 'a..b', '*.a', 'a b', `${'a'.repeat(64)}.b`, 'a.'.repeat(127) + 'abc'])
    assert.throws(() => dnsName(bad, 'name'), { code: 'invalid' }, bad)
})
