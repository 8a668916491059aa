// DNS.
import assert from 'node:assert/strict'
import { VPC_DNS_ADDRESS } from '#cloud/network/network.driver.ts'
import { HOST, machine, refused } from '../world.ts'
import { NAMES, type MachineName, type Placed, type Scene, VIP, type VpcNames } from './scene.ts'
import type { Prove } from './suite.ts'

/** The names that each VPC's zone holds: a workload's VIP where it has one, else its machines. */
function zonesOf({ machines, plans }: Scene): VpcNames[] {
  const of = (number: 1 | 2 | 3, suffix: string, members: readonly MachineName[]): VpcNames => {
    const names: Record<string, string[]> = {}
    const vip = plans[number].vips.find((it) => it.address.endsWith(`.${VIP.web}`))
    for (const it of members)
      for (const name of NAMES[it])
        if (vip && name.startsWith('web')) names[name] = [vip.address]
        else names[name] = [...(names[name] ?? []), machines[it].at.address]
    const callers = plans[number].attachments.map((it) => it.fabric)
    return { vpc: plans[number].vpc, callers, suffix, names }
  }
  return [
    of(1, 'one.internal', ['a1', 'a2', 'a3']),
    of(2, 'two.internal', ['b1', 'b2']),
    of(3, 'three.internal', ['c1']),
  ]
}

const names: Prove = (scene, check) => {
  const { a3, b2, c1 } = scene.machines
  const leadsTo = async (from: Placed, name: string, expected: RegExp): Promise<void> => {
    const { text = '', error } = await from.resolve(scene.resolver, name)
    assert.equal(error, undefined, name)
    for (const address of text.split(' '))
      assert.match((await from.ask(address, 80)).text ?? `${name} at ${address}: no answer`, expected)
  }
  check('own names lead to the workload, short and whole', async () => {
    await using _ = await scene.serveNames(zonesOf(scene))
    for (const name of ['web', 'web.one.internal', 'WEB.One.internal']) await leadsTo(a3, name, /^a[12] /)
    await leadsTo(a3, 'client', /^a3 /)
    await leadsTo(b2, 'web', /^b1 /)
    await leadsTo(b2, 'other.two.internal', /^b2 /)
    await leadsTo(c1, 'alone.three.internal', /^c1 /)
  })
  check('those of another VPC do not exist', async () => {
    await using _ = await scene.serveNames(zonesOf(scene))
    const asked = [
      a3.resolve(scene.resolver, 'other'),
      a3.resolve(scene.resolver, 'other.two.internal'),
      b2.resolve(scene.resolver, 'web.one.internal'),
      b2.resolve(scene.resolver, 'client'),
      c1.resolve(scene.resolver, 'web'),
    ]
    await refused(...asked)
  })
  if (!scene.promises.has('fabric')) return
  check('the resolver is asked at its link-local address and knows the caller', async () => {
    const { a2, b2, c1 } = scene.machines
    const resolver = machine('resolver')
    try {
      await resolver.listen(53, { protocol: 'udp', address: HOST.resolver })
      await resolver.listen(53, { address: HOST.resolver })
      for (const protocol of ['udp', 'tcp'] as const)
        for (const it of [a2, b2, c1])
          assert.deepEqual(await it.ask(VPC_DNS_ADDRESS, 53, { protocol }), {
            text: `resolver ${it.at.fabric}`,
          })
      await refused(a2.ask(HOST.resolver, 53), a2.ask(VPC_DNS_ADDRESS, 80), scene.lan.ask(HOST.resolver, 53))
    } finally {
      resolver.stop()
    }
  })
}

const zones: Prove = (scene, check) => {
  const { a3, b2 } = scene.machines
  const ttlSeconds = 300
  const at = (name: string) => ({ name: `${name}corp.example`, ttlSeconds })
  const records = [
    { ...at('db.'), type: 'A', data: scene.machines.a1.at.address },
    { ...at('alias.'), type: 'CNAME', data: 'db.corp.example' },
    { ...at('short.'), type: 'CNAME', data: 'client' },
    { ...at(''), type: 'MX', data: { preference: 10, exchange: 'db.corp.example' } },
    {
      ...at('_sip._tcp.'),
      type: 'SRV',
      data: { priority: 1, weight: 5, port: 5060, target: 'db.corp.example' },
    },
    { ...at(''), type: 'TXT', data: ['one', 'two'] },
  ] as const
  const served = () => {
    const [one, ...others] = zonesOf(scene)
    return one ? [{ ...one, zone: { domain: 'corp.example', records } }, ...others] : []
  }
  check('of each type, and by an alias', async () => {
    await using _ = await scene.serveNames(served())
    for (const name of ['db', 'alias', 'DB']) {
      const { text = '' } = await a3.resolve(scene.resolver, `${name}.corp.example`)
      assert.match((await a3.ask(text, 80)).text ?? `nobody at ${text}`, /^a1 /)
    }
    const client = await a3.resolve(scene.resolver, 'short.corp.example')
    assert.equal(client.text, a3.at.address, 'an alias of a workload')
    const told = async (name: string, type: 'MX' | 'SRV' | 'TXT'): Promise<unknown> =>
      JSON.parse((await a3.resolve(scene.resolver, name, type)).text ?? 'null')
    assert.partialDeepStrictEqual(await told('corp.example', 'MX'), [
      { exchange: 'db.corp.example', priority: 10 },
    ])
    assert.partialDeepStrictEqual(await told('_sip._tcp.corp.example', 'SRV'), [
      { name: 'db.corp.example', port: 5060, priority: 1, weight: 5 },
    ])
    assert.deepEqual(await told('corp.example', 'TXT'), [['one', 'two']])
  })
  check('to nobody else, and none that is not there', async () => {
    await using _ = await scene.serveNames(served())
    await refused(
      b2.resolve(scene.resolver, 'db.corp.example'),
      b2.resolve(scene.resolver, 'alias.corp.example'),
      a3.resolve(scene.resolver, 'other.corp.example'),
    )
  })
}

export const NAMING = { names, zones } satisfies Partial<Record<string, Prove>>
