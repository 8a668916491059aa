// The addresses of workloads.
import assert from 'node:assert/strict'
import type { Answer } from '../world.ts'
import { EXTERNAL, type Scene, VIP } from './scene.ts'
import type { Prove } from './suite.ts'

/** Much longer than a refusal takes, much shorter than the time after which an unanswered one is given up. */
const AT_ONCE_MS = 300

const vips = ({ plans }: Scene, last: number) => {
  const found = plans[1].vips.find((it) => it.address.endsWith(`.${last}`))
  return found ?? assert.fail(`no VIP ${last}`)
}

/** A machine that calls itself sees one of its VIPs as the caller. */
export const bySelf = ({ text }: Answer): void =>
  assert.match(text ?? 'no answer', /^a1 (10\.0\.1\.10[023]|fd00:0:1:1::10[023])$/)

const vip: Prove = (scene, check) => {
  const { a3 } = scene.machines
  const web = vips(scene, VIP.web)
  check('evenly over its backends, with both families', async () => {
    for (const [address, seen] of [
      [web.address, a3.at.address],
      [web.address6, a3.at.address6],
    ] as const) {
      const counts = new Map<string, number>()
      for (let time = 0; time < 8; time++) {
        const { text = 'none' } = await a3.ask(address, 80)
        counts.set(text, (counts.get(text) ?? 0) + 1)
      }
      assert.deepEqual(Object.fromEntries(counts), { [`a1 ${seen}`]: 4, [`a2 ${seen}`]: 4 })
    }
  })
  check('for its ports only, and it answers ping', async () => {
    assert.deepEqual(await a3.ask(web.address, 81), { error: 'ECONNREFUSED' })
    assert.match(
      (await a3.ask(vips(scene, VIP.datagrams).address, 53, { protocol: 'udp' })).text ?? '',
      /^a[12] /,
    )
    assert.ok(a3.ping(web.address))
    assert.ok(a3.ping(web.address6))
  })
  check('only to those that are ready', async () => {
    const { a1 } = scene.machines
    const others = scene.plans[1].vips.filter((it) => it.id !== web.id)
    await scene.change(1, { vips: [...others, { ...web, backends: [a1.at.id] }] })
    for (let time = 0; time < 4; time++)
      assert.deepEqual(await a3.ask(web.address, 80), { text: `a1 ${a3.at.address}` })
  })
}

const refusal: Prove = (scene, check) => {
  const { a1, a3 } = scene.machines
  const empty = vips(scene, VIP.empty)
  check('by each of its addresses, and for each port', async () => {
    for (const address of [empty.address, empty.address6, empty.external ?? '']) {
      const started = performance.now()
      assert.deepEqual(await a3.ask(address, 80), { error: 'ECONNREFUSED' })
      assert.ok(performance.now() - started < AT_ONCE_MS)
    }
    const port = await a3.ask(vips(scene, VIP.datagrams).address, 54, { protocol: 'udp' })
    assert.deepEqual(port, { error: 'ECONNREFUSED' })
  })
  check('of a datagram too, whose sender gets through as soon as somebody is ready', async () => {
    const udp = (backends: string[]) => [
      { ...empty, backends, ports: [{ protocol: 'udp' as const, port: 53 }] },
    ]
    const addresses = [empty.address, empty.external ?? '']
    await scene.change(1, { vips: udp([]) })
    for (const it of [...addresses, empty.address6])
      assert.deepEqual(await a3.open(it, it, 53, { protocol: 'udp' }), { error: 'ECONNREFUSED' })
    await scene.change(1, { vips: udp([a1.at.id]) })
    for (const it of addresses) assert.match((await a3.say(it)).text ?? 'no answer', /^a1 /)
  })
}

const hairpin: Prove = (scene, check) => {
  const { a1 } = scene.machines
  const web = vips(scene, VIP.web)
  check('in both families, and by its external address', async () => {
    const answers = [await a1.ask(web.address, 80), await a1.ask(web.address, 80)]
    const [self, other] = answers.toSorted((a, b) => (a.text ?? '').localeCompare(b.text ?? ''))
    bySelf(self ?? {})
    assert.deepEqual(other, { text: `a2 ${a1.at.address}` })
    bySelf(await a1.ask(vips(scene, VIP.single).address6, 80))
    bySelf(await a1.ask(EXTERNAL, 80))
  })
}

export const VIPS = { vip, 'vip-refusal': refusal, hairpin } satisfies Partial<Record<string, Prove>>
