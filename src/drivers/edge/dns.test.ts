import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { after, before, suite, test } from 'node:test'
import fc from 'fast-check'
import { simulatedClock, systemClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import { exampleZone } from '#cloud/edge/edge.conformance.ts'
import type { Zone } from '#cloud/edge/edge.driver.ts'
import { createDns, type Dns } from './dns.ts'
import {
  dataOf,
  query,
  read,
  type Seen,
  sendTcp,
  sendUdp,
  type Server,
  startUpstream,
  type Tells,
} from './dns.testing.ts'
import { createResolver, RESOLVER_LIMITS } from './resolver.ts'
import { serveZone } from './zone.ts'

const ADDRESSES = Array.from({ length: 40 }, (_, it) => `10.0.2.${it + 1}`)
const ME = '127.0.1.1'
const CLOSED = '127.0.1.2'
const STRANGER = '127.0.1.9'
const FIRST = '127.0.2.1'
const SECOND = '127.0.2.2'

const zones: readonly Zone[] = [
  exampleZone({
    callers: [ME],
    names: {
      web: { a: ['10.0.1.5'], aaaa: ['fd00::5'] },
      'web.production.internal': { a: ['10.0.1.5'], aaaa: ['fd00::5'] },
      'many.production.internal': { a: ADDRESSES, aaaa: [] },
    },
    records: [
      { name: 'out.corp.example', ttlSeconds: 60, type: 'CNAME', data: 'www.example.com' },
      { name: 'text.corp.example', ttlSeconds: 60, type: 'TXT', data: ['one', 'two'] },
    ],
    suffixes: ['corp.example', 'production.internal'],
    nameservers: [FIRST, SECOND],
  }),
  exampleZone({
    vpc: 'vpc-b',
    callers: [CLOSED],
    names: { web: { a: ['10.0.1.6'], aaaa: [] } },
    records: [{ name: 'out.corp.example', ttlSeconds: 60, type: 'CNAME', data: 'www.example.com' }],
    forward: false,
  }),
]
const table = {
  zoneOf(caller: string) {
    const zone = zones.find((it) => it.callers.includes(caller))
    return zone && serveZone(zone)
  },
}

const bound = async (dns: Dns): Promise<Server> => {
  const end = performance.now() + 5000
  for (;;) {
    const server = dns.bound()
    if (server) return server
    assert.ok(performance.now() < end, 'the resolver listens in time')
    await new Promise((resolve) => setImmediate(resolve))
  }
}

const address = (name: string, data: string, ttl = 60) => ({ type: 'A', name, ttl, data }) as const
const upstream = (): Tells => (asked) => ({ answers: [address(asked.name, '192.0.2.1')] })

/** A resolver whose zone's nameservers say what `first` and `second` tell them to. */
async function withDns(
  first: Tells,
  second: Tells,
  run: (
    ask: (
      name: string,
      how?: { transport?: 'udp' | 'tcp'; edns?: number; caller?: string; flags?: number },
    ) => Promise<Seen>,
    counts: () => { first: number; second: number; transports: string[] },
    server: Server,
  ) => Promise<void>,
): Promise<void> {
  await using one = await startUpstream(FIRST, 0, first)
  await using two = await startUpstream(SECOND, one.port, second)
  const dns = createDns({
    listen: { address: '127.0.0.1', port: 0 },
    table,
    hostNameservers: () => [],
    clock: systemClock,
    log: silentLog,
    limits: { ...RESOLVER_LIMITS, attemptMsMax: 200 },
    nameserverPort: one.port,
  })
  try {
    const server = await bound(dns)
    await run(
      async (name, { transport = 'udp', caller = ME, ...how } = {}) => {
        const message = query(name, 'A', how)
        const [answer] =
          transport === 'udp'
            ? [await sendUdp(server, caller, message)]
            : await sendTcp(server, caller, [message])
        assert.ok(answer)
        return read(answer)
      },
      () => ({
        first: one.asked.length,
        second: two.asked.length,
        transports: one.asked.map((it) => it.transport),
      }),
      server,
    )
  } finally {
    await dns.close()
  }
}

suite('names of a VPC', () => {
  let dns: Dns
  let server: Server
  before(async () => {
    const listen = { address: '127.0.0.1', port: 0 }
    dns = createDns({ listen, table, hostNameservers: () => [], clock: systemClock, log: silentLog })
    server = await bound(dns)
  })
  after(async () => await dns.close())
  const ask = async (...how: Parameters<typeof query>): Promise<Seen> =>
    read(await sendUdp(server, ME, query(...how)))

  test('are answered with authority, as they were spelled, for seconds', async () => {
    const seen = await ask('WeB.Production.Internal')
    assert.deepEqual([seen.id, seen.rcode, seen.flag_aa, seen.flag_ra], [4711, 'NOERROR', true, true])
    assert.deepEqual(dataOf(seen), ['10.0.1.5'])
    assert.equal(seen.questions?.[0]?.name, 'WeB.Production.Internal')
    const [answer] = seen.answers ?? []
    assert.ok(answer?.type === 'A' && answer.ttl === 5)
    assert.deepEqual(dataOf(await ask('web', 'AAAA')), ['fd00::5'])
  })

  test('answering leaves the zone as it was', async () => {
    for (const _ of [1, 2])
      assert.deepEqual(dataOf(await ask('text.corp.example', 'TXT')), [
        [Buffer.from('one'), Buffer.from('two')],
      ])
    assert.deepEqual(zones[0]?.records?.[1]?.data, ['one', 'two'])
  })

  test('differ per caller, and a stranger gets nothing', async () => {
    assert.deepEqual(dataOf(read(await sendUdp(server, CLOSED, query('web')))), ['10.0.1.6'])
    const refused = read(await sendUdp(server, STRANGER, query('web')))
    assert.deepEqual([refused.rcode, dataOf(refused)], ['REFUSED', []])
  })

  test('without data or without existence have a SOA', async () => {
    for (const [name, type, rcode] of [
      ['web', 'MX', 'NOERROR'],
      ['nothing.production.internal', 'A', 'NXDOMAIN'],
      ['nothing', 'A', 'NXDOMAIN'],
    ] as const) {
      const seen = await ask(name, type)
      assert.deepEqual([seen.rcode, seen.answers, seen.authorities?.[0]?.type], [rcode, [], 'SOA'], name)
    }
  })

  test('too many for a packet are cut, and whole by TCP or with EDNS', async () => {
    const cut = await ask('many.production.internal')
    assert.deepEqual([cut.flag_tc, cut.answers], [true, []])
    assert.ok((await ask('many.production.internal', 'A', { edns: 1232 })).flag_tc, '40 of 42 bytes each')
    const [whole, next] = await sendTcp(server, ME, [query('many.production.internal'), query('web')])
    assert.ok(whole && next)
    assert.deepEqual([read(whole).flag_tc, dataOf(read(whole))], [false, ADDRESSES])
    assert.deepEqual(dataOf(read(next)), ['10.0.1.5'])
  })

  test('EDNS is answered with EDNS, a newer one refused', async () => {
    const seen = await ask('web', 'A', { edns: 4096 })
    const [opt] = seen.additionals ?? []
    assert.ok(opt?.type === 'OPT' && opt.udpPayloadSize === 1232)
    assert.deepEqual((await ask('web')).additionals, [])
    const message = query('web', 'A', { edns: 4096 })
    message[message.length - 5] = 1 // its version
    const newer = read(await sendUdp(server, ME, message))
    const [refusal] = newer.additionals ?? []
    assert.ok(refusal?.type === 'OPT' && refusal.extendedRcode === 1)
    assert.deepEqual(newer.answers, [])
  })

  test('what is not a plain question is refused', async () => {
    assert.equal((await ask('web', 'AXFR')).rcode, 'REFUSED')
    const chaos = query('version.bind', 'TXT')
    chaos.writeUInt16BE(3, chaos.length - 2)
    assert.equal(read(await sendUdp(server, ME, chaos)).rcode, 'REFUSED')
    assert.equal((await ask('web', 'A', { flags: 4 << 11 })).rcode, 'NOTIMP')
    const two = query('web')
    two.writeUInt16BE(2, 4)
    assert.equal(read(await sendUdp(server, ME, two)).rcode, 'FORMERR')
    assert.equal(read(await sendUdp(server, ME, query('web').subarray(0, 15))).rcode, 'FORMERR')
  })

  test('arbitrary bytes and broken queries do not stop it', async () => {
    const resolver = createResolver({ table, hostNameservers: () => [], clock: systemClock })
    const broken = fc
      .tuple(
        fc.constantFrom('web', 'many.production.internal', 'a.b'),
        fc.array(fc.tuple(fc.nat(80), fc.nat(255)), { maxLength: 8 }),
      )
      .map(([name, changes]) => {
        const message = query(name, 'A', { edns: 1232 })
        for (const [at, value] of changes) message[at % message.length] = value
        return message
      })
    const bytes = fc.uint8Array({ maxLength: 300 }).map((it) => Buffer.from(it))
    // CLOSED forwards nothing, so that no fuzzed name leaves this host.
    const answers = async (message: Buffer, transport: 'udp' | 'tcp'): Promise<void> => {
      const answer = await resolver.answer(message, CLOSED, transport)
      if (!answer) return assert.ok(message.length < 12 || (message.readUInt16BE(2) & 0x8000) !== 0)
      assert.equal(answer.readUInt16BE(0), message.readUInt16BE(0))
      assert.ok(answer.length >= 12 && read(answer).flag_qr)
    }
    await fc.assert(
      fc.asyncProperty(fc.oneof(bytes, broken), fc.constantFrom('udp', 'tcp'), async (message, transport) => {
        await answers(message, transport)
      }),
      { numRuns: 3000 },
    )
    for (const message of fc.sample(fc.oneof(bytes, broken), 200))
      await sendTcp(server, ME, [message.subarray(0, 5), message]).catch(() => {})
    assert.deepEqual(dataOf(await ask('web')), ['10.0.1.5'])
  })
})

suite('names outside', () => {
  test('are asked of the first nameserver, once while they may be kept', async () => {
    await withDns(upstream(), upstream(), async (ask, counts) => {
      const seen = await ask('www.Example.com')
      assert.deepEqual(
        [seen.rcode, seen.flag_aa, seen.flag_ra, seen.questions?.[0]?.name],
        ['NOERROR', false, true, 'www.Example.com'],
      )
      assert.deepEqual(dataOf(seen), ['192.0.2.1'])
      assert.deepEqual(dataOf(await ask('WWW.example.COM')), ['192.0.2.1'])
      assert.deepEqual(counts(), { first: 1, second: 0, transports: ['udp'] })
    })
  })

  test('are never asked when the VPC has the authority, or no way outside', async () => {
    await withDns(upstream(), upstream(), async (ask, counts) => {
      assert.equal((await ask('nothing.production.internal')).rcode, 'NXDOMAIN')
      assert.equal((await ask('nothing')).rcode, 'NXDOMAIN')
      const closed = await ask('www.example.com', { caller: CLOSED })
      assert.deepEqual([closed.rcode, closed.flag_ra, closed.authorities], ['NXDOMAIN', false, []])
      assert.equal((await ask('www.example.com', { flags: 0 })).rcode, 'REFUSED')
      assert.deepEqual(counts(), { first: 0, second: 0, transports: [] })
    })
  })

  test('are asked of the next nameserver when one fails or is silent', async () => {
    await withDns(
      () => ({ rcode: 2 }),
      upstream(),
      async (ask) => {
        assert.deepEqual(dataOf(await ask('www.example.com')), ['192.0.2.1'])
      },
    )
    await withDns(
      () => undefined,
      upstream(),
      async (ask) => {
        assert.deepEqual(dataOf(await ask('www.example.com')), ['192.0.2.1'])
      },
    )
    await withDns(
      () => ({ rcode: 2 }),
      () => ({ rcode: 5 }),
      async (ask) => {
        assert.equal((await ask('www.example.com')).rcode, 'REFUSED')
      },
    )
  })

  test('do not wait for a nameserver that cannot be reached', async () => {
    const zone = exampleZone({ callers: [ME], nameservers: ['255.255.255.255', '127.0.2.3'] })
    const started = performance.now()
    const tableOfOne = { zoneOf: () => serveZone(zone) }
    const resolver = createResolver({
      table: tableOfOne,
      hostNameservers: () => [],
      clock: systemClock,
      nameserverPort: 9,
    })
    const seen = read((await resolver.answer(query('www.example.com'), ME, 'udp')) ?? Buffer.alloc(0))
    assert.equal(seen.rcode, 'SERVFAIL')
    assert.ok(performance.now() - started < RESOLVER_LIMITS.attemptMsMax)
  })

  test('fail when nobody answers', async () => {
    await withDns(
      () => undefined,
      () => undefined,
      async (ask) => {
        assert.equal((await ask('www.example.com')).rcode, 'SERVFAIL')
      },
    )
  })

  test('that an alias of the VPC leads to are answered with it', async () => {
    let told: ReturnType<Tells> = {
      answers: [
        { type: 'CNAME', name: 'www.example.com', data: 'host.example.com' },
        address('host.example.com', '192.0.2.1'),
        { type: 'TXT', name: 'host.example.com', data: 'not asked for' },
      ],
    }
    const second = (): undefined => undefined
    await withDns(
      () => told,
      second,
      async (ask, counts) => {
        const seen = await ask('Out.corp.example')
        assert.deepEqual(
          [seen.rcode, seen.flag_aa, dataOf(seen)],
          ['NOERROR', false, ['www.example.com', 'host.example.com', '192.0.2.1']],
        )
        assert.equal(counts().first, 1)
        told = { rcode: 3 }
        const closed = await ask('out.corp.example', { caller: CLOSED })
        assert.deepEqual([closed.rcode, dataOf(closed)], ['NXDOMAIN', ['www.example.com']])
        assert.equal(counts().first, 1, 'of a VPC without a way out nobody is asked')
        const plain = await ask('out.corp.example', { flags: 0 })
        assert.deepEqual([plain.rcode, dataOf(plain)], ['NOERROR', ['www.example.com']])
      },
    )
    await withDns(
      () => ({ rcode: 3 }),
      second,
      async (ask) => {
        const seen = await ask('out.corp.example')
        assert.deepEqual([seen.rcode, dataOf(seen)], ['NXDOMAIN', ['www.example.com']])
      },
    )
    await withDns(second, second, async (ask) => {
      assert.equal((await ask('out.corp.example')).rcode, 'SERVFAIL')
    })
  })

  test('that do not exist are an answer', async () => {
    await withDns(
      () => ({ rcode: 3 }),
      upstream(),
      async (ask, counts) => {
        assert.equal((await ask('no.example.com')).rcode, 'NXDOMAIN')
        assert.equal(counts().second, 0)
      },
    )
  })

  test('are asked again by TCP when they do not fit', async () => {
    const tells: Tells = ({ name, transport }) =>
      transport === 'udp' ? { truncated: true } : { answers: ADDRESSES.map((it) => address(name, it)) }
    await withDns(tells, upstream(), async (ask, counts) => {
      const cut = await ask('big.example.com')
      assert.deepEqual([cut.flag_tc, cut.answers], [true, []])
      const whole = await ask('big.example.com', { transport: 'tcp' })
      assert.deepEqual([whole.flag_tc, dataOf(whole)], [false, ADDRESSES])
      assert.deepEqual(counts().transports, ['udp', 'tcp'])
    })
  })

  test('are not taken from an answer to something else', async () => {
    const otherId: Tells = ({ name }) => ({
      answers: [address(name, '192.0.2.66')],
      bend: (bytes) => {
        bytes.writeUInt16BE(bytes.readUInt16BE(0) ^ 1, 0)
        return bytes
      },
    })
    const otherName: Tells = ({ name }) => ({
      answers: [address(name, '192.0.2.66')],
      bend: (bytes) => {
        bytes[13] = 0x78
        return bytes
      },
    })
    const broken: Tells = ({ name }) => ({
      answers: [address(name, '192.0.2.66')],
      bend: (bytes) => bytes.subarray(0, -2),
    })
    for (const first of [otherId, otherName, broken]) {
      await withDns(first, upstream(), async (ask) => {
        assert.deepEqual(dataOf(await ask('www.example.com')), ['192.0.2.1'])
      })
    }
  })

  test('asked by many at once are asked outside once, and one caller has a share', async () => {
    const asked: string[] = []
    const server = await startUpstream(FIRST, 0, ({ name }) => {
      asked.push(name)
      return name === 'slow.example.com' ? undefined : { answers: [address(name, '192.0.2.1', 0)] }
    })
    const zone = exampleZone({ callers: [ME, CLOSED], nameservers: [FIRST] })
    const resolver = createResolver({
      table: { zoneOf: () => serveZone(zone) },
      hostNameservers: () => [],
      clock: systemClock,
      limits: { ...RESOLVER_LIMITS, perCallerMax: 3 },
      nameserverPort: server.port,
    })
    const slow = Array.from(
      { length: 3 },
      async () => await resolver.answer(query('slow.example.com'), ME, 'udp'),
    )
    const refused = await resolver.answer(query('www.example.com'), ME, 'udp')
    assert.equal(read(refused ?? Buffer.alloc(0)).rcode, 'SERVFAIL')
    const other = await resolver.answer(query('www.example.com'), CLOSED, 'udp')
    assert.deepEqual(dataOf(read(other ?? Buffer.alloc(0))), ['192.0.2.1'])
    resolver.close()
    for (const it of await Promise.all(slow)) assert.equal(read(it ?? Buffer.alloc(0)).rcode, 'SERVFAIL')
    assert.deepEqual(asked.toSorted(), ['slow.example.com', 'www.example.com'])
    await server[Symbol.asyncDispose]()
  })

  test('are kept no longer than they may, and told how much longer', async () => {
    const clock = simulatedClock()
    await using server = await startUpstream(FIRST, 0, ({ name }) =>
      name.startsWith('no')
        ? {
            rcode: 3,
            authorities: [
              {
                type: 'SOA',
                name: 'com',
                ttl: 900,
                data: { mname: 'a', rname: 'b', serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 20 },
              },
            ],
          }
        : { answers: [address(name, '192.0.2.1', 60)] },
    )
    const zone = exampleZone({ callers: [ME], nameservers: [] })
    const resolver = createResolver({
      table: { zoneOf: () => serveZone(zone) },
      hostNameservers: () => ['127.0.0.1', FIRST],
      self: '127.0.0.1',
      clock,
      limits: { ...RESOLVER_LIMITS, cacheEntriesMax: 2 },
      nameserverPort: server.port,
    })
    const ttl = async (name: string): Promise<number | undefined> => {
      const seen = read((await resolver.answer(query(name), ME, 'udp')) ?? Buffer.alloc(0))
      const [record] = [...(seen.answers ?? []), ...(seen.authorities ?? [])]
      return record && 'ttl' in record ? record.ttl : undefined
    }
    assert.equal(await ttl('a.example.com'), 60)
    await clock.advance(25_500)
    assert.equal(await ttl('a.example.com'), 35)
    assert.equal(await ttl('no.example.com'), 900)
    await clock.advance(19_000)
    assert.equal(await ttl('no.example.com'), 881)
    await clock.advance(1_500)
    assert.equal(await ttl('no.example.com'), 900)
    assert.equal(server.asked.length, 3)
    await clock.advance(15_000)
    assert.equal(await ttl('a.example.com'), 60)
    assert.equal(server.asked.length, 4)
    await ttl('b.example.com') // now the oldest of three leaves
    assert.equal(await ttl('a.example.com'), 60)
    assert.equal(await ttl('no.example.com'), 900)
    assert.equal(server.asked.length, 6)
    resolver.close()
  })
})

test('a port that is taken is waited for, and said once', async () => {
  const squatter = createServer()
  squatter.listen(0, '127.0.0.1')
  await once(squatter, 'listening')
  const taken = squatter.address()
  assert.ok(taken && typeof taken === 'object')
  const clock = simulatedClock()
  const said: string[] = []
  const log = { ...silentLog, warn: (message: string) => void said.push(message) }
  const dns = createDns({
    listen: { address: '127.0.0.1', port: taken.port },
    table,
    hostNameservers: () => [],
    clock,
    log,
  })
  const sleeping = async (): Promise<void> => {
    for (let turn = 0; clock.nextMs() === undefined; turn++) {
      assert.ok(turn < 10_000)
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  for (let attempt = 0; attempt < 8; attempt++) {
    await sleeping()
    assert.ok((clock.nextMs() ?? 0) <= 1000)
    await clock.advance(1000)
  }
  assert.deepEqual(said, ['resolver cannot listen, trying again until it can'])
  await sleeping()
  squatter.close()
  await once(squatter, 'close')
  await clock.advance(1000)
  assert.equal((await bound(dns)).port, taken.port)
  await dns.close()
  assert.equal(dns.bound(), undefined)
})
