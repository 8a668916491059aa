import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { cidr, formatCidr, overlaps, sizeOf } from '#lib/cidr.ts'
import { plannedHost } from '#cloud/network/network.conformance.ts'
import {
  beyond,
  hostRules,
  hostSetsText,
  proxyLines,
  sharesOf,
  sharesText,
  surroundings,
  widest,
} from './host.ts'

const isOurs = (link: string): boolean => link.startsWith('arcus-u')
const flags: string[] = []
const around = surroundings(
  [
    { dst: 'default', gateway: '192.0.2.1', dev: 'eth0', flags },
    { dst: '192.0.2.0/24', dev: 'eth0', protocol: 'kernel', flags },
    { dst: '172.17.0.0/16', dev: 'docker0', protocol: 'kernel', flags },
    { dst: '10.9.0.0/16', gateway: '192.0.2.7', dev: 'eth0', flags },
    { dst: '10.8.0.2', dev: 'tun0', flags },
    { dst: '100.112.5.5', gateway: '100.112.1.1', dev: 'arcus-u1', flags },
    { type: 'unreachable', dst: '10.0.0.0/8', flags },
  ],
  isOurs,
)

describe('the surroundings of a host', () => {
  test('are its networks, near and routed, without ours', () => {
    assert.deepEqual(around.networks, ['10.8.0.2/32', '10.9.0.0/16', '172.17.0.0/16', '192.0.2.0/24'])
    assert.deepEqual(around.exits, ['eth0'])
  })

  test('know two halves for a default route', () => {
    const halves = ['0.0.0.0/1', '128.0.0.0/1'].map((dst) => ({ dst, dev: 'tun0', flags }))
    assert.deepEqual(surroundings(halves, isOurs), { networks: [], exits: ['tun0'], connected: [] })
  })
})

describe('proxy neighbours', () => {
  const pools = ['192.0.2.128/26', '100.64.0.0/12']

  test('are made for external addresses in a network of the host, on its link', () => {
    assert.deepEqual(proxyLines(['192.0.2.130', '100.64.0.1'], around, [], pools), [
      'neigh replace proxy 192.0.2.130 dev eth0 protocol 190',
    ])
    // A network that is only routed to has a router of its own to ask.
    assert.deepEqual(proxyLines(['10.9.0.1'], around, [], pools), [])
  })

  test('that are ours and no longer wanted go, and nobody else’s', () => {
    const there = [
      { dst: '192.0.2.130', dev: 'eth0', protocol: '190' },
      { dst: '192.0.2.131', dev: 'eth0', protocol: '190' },
      { dst: '192.0.2.132', dev: 'docker0', protocol: '190' },
      { dst: '192.0.2.133', dev: 'eth0' },
      { dst: '198.51.100.1', dev: 'eth0', protocol: '190' },
    ]
    assert.deepEqual(proxyLines(['192.0.2.130', '192.0.2.132'], around, there, pools), [
      'neigh del proxy 192.0.2.131 dev eth0',
      'neigh del proxy 192.0.2.132 dev docker0',
      'neigh replace proxy 192.0.2.132 dev eth0 protocol 190',
    ])
  })
})

test('of networks that lie in one another the widest are kept, and nothing is lost', () => {
  const anyCidr = fc
    .tuple(fc.nat(0xffffffff), fc.integer({ min: 0, max: 32 }))
    .map(([base, prefix]) => formatCidr({ base: base - (base % 2 ** (32 - prefix)), prefix }))
  fc.assert(
    fc.property(fc.array(anyCidr, { maxLength: 12 }), (networks) => {
      const kept = widest(networks).map(cidr)
      for (const [index, it] of kept.entries())
        assert.ok(!kept.some((other, at) => at !== index && overlaps(it, other)))
      for (const it of networks.map(cidr))
        assert.ok(kept.some((wide) => overlaps(wide, it) && sizeOf(wide) >= sizeOf(it)))
    }),
  )
})

describe('the text of a host', () => {
  const text = hostRules('arcus', { ...plannedHost, allowed: ['192.0.2.0/24', '192.0.2.9/32'] }, 100)

  test('names what may be reached, each network once', () => {
    assert.match(text, /set allowed \{ type ipv4_addr; flags interval; elements = \{ 192\.0\.2\.0\/24 \}; \}/)
    assert.match(text, /set pools \{ type ipv4_addr; flags interval; elements = \{ 100\.72\.0\.0\/24 \}; \}/)
  })

  test('closes what it does not name', () => {
    const chain = (name: string): string[] =>
      new RegExp(`chain ${name} \\{\\n([\\s\\S]*?)\\n {2}\\}`)
        .exec(text)?.[1]
        ?.split('\n')
        .map((it) => it.trim()) ?? []
    assert.equal(chain('into_vpc').at(-1), 'drop')
    assert.equal(chain('from_vpc_in').at(-1), 'drop')
    assert.deepEqual(chain('from_vpc').slice(-3), [
      'ip daddr @allowed accept',
      'oifname != @exits drop',
      'ip daddr @networks drop',
    ])
  })

  test('fills its sets anew, or changes only what differs', () => {
    const clashes = [{ uplink: 'arcus-u1', cidr: '10.0.0.0/16' }]
    const exposed = [{ protocol: 'tcp' as const, port: 30_080, to: '100.120.0.3', uplink: 'arcus-u1' }]
    const sets = { clashes, exposed }
    assert.deepEqual(hostSetsText('arcus', { ...around, networks: [], ...sets }).split('\n'), [
      'flush set inet arcus networks',
      'flush set inet arcus exits',
      'add element inet arcus exits { "eth0" }',
      'flush set inet arcus clashes',
      'add element inet arcus clashes { "arcus-u1" . 10.0.0.0/16 }',
      'flush map inet arcus published',
      'add element inet arcus published { tcp . 30080 : 100.120.0.3 }',
      'flush set inet arcus published_to',
      'add element inet arcus published_to { 100.120.0.3 . tcp . 30080 }',
      '',
    ])
    const [had, has] = [
      sharesOf(sets),
      sharesOf({ clashes: [], exposed: exposed.map((it) => ({ ...it, port: 30_081 })) }),
    ]
    assert.deepEqual(sharesText('arcus', beyond(had, has), beyond(has, had)).split('\n'), [
      'delete element inet arcus clashes { "arcus-u1" . 10.0.0.0/16 }',
      'delete element inet arcus published { tcp . 30080 : 100.120.0.3 }',
      'delete element inet arcus published_to { 100.120.0.3 . tcp . 30080 }',
      'add element inet arcus published { tcp . 30081 : 100.120.0.3 }',
      'add element inet arcus published_to { 100.120.0.3 . tcp . 30081 }',
      '',
    ])
    assert.equal(sharesText('arcus', beyond(had, had), beyond(had, had)), '')
  })
})
