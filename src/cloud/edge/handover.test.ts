import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { isCloudError } from '#lib/errors.ts'
import { simulatedFront } from '#drivers/simulated/front.ts'
import type { FrontCertificate } from './front.driver.ts'
import { createHandover } from './handover.ts'

const signal = new AbortController().signal
const issuedAs = (chain: string): Omit<FrontCertificate, 'generation'> => ({
  id: 'c',
  tenant: 't',
  issued: { names: ['shop.example'], chain, key: 'key' },
  challenges: [],
})

/** A front door whose first answer to `verb` comes when `open` is called. */
function slowly(verb: 'list' | 'applyCertificate') {
  const front = simulatedFront()
  const gate = Promise.withResolvers<void>()
  let isFirst = true
  const late = async <R>(work: Promise<R>): Promise<R> => {
    const result = await work
    if (isFirst) {
      isFirst = false
      await gate.promise
    }
    return result
  }
  const driver = {
    ...front,
    list: async (until: AbortSignal) => await (verb === 'list' ? late(front.list(until)) : front.list(until)),
    applyCertificate: async (it: FrontCertificate, until: AbortSignal) => {
      const work = front.applyCertificate(it, until)
      await (verb === 'applyCertificate' ? late(work) : work)
    },
  }
  return { front, handover: createHandover(driver), open: gate.resolve }
}

test('a look of before whose answer comes late does not hide what its successor handed over', async () => {
  const { front, handover, open } = slowly('applyCertificate')
  const before = handover.put(issuedAs('old'), signal)
  await turn()
  const after = handover.put(issuedAs('new'), signal)
  await turn()
  open()
  await Promise.all([before, after])
  assert.equal(front.certificates.get('c')?.issued?.chain, 'new')
  await handover.put(issuedAs('old'), signal)
  assert.equal(front.certificates.get('c')?.issued?.chain, 'old', 'a wish that goes back is handed over')
})

test('a look of before does not hand over again what was removed', async () => {
  const { front, handover, open } = slowly('list')
  const before = handover.put(issuedAs('old'), signal).catch((error: unknown) => error)
  await turn()
  const removed = handover.remove('c', signal)
  await turn()
  open()
  await Promise.all([before, removed])
  assert.ok(!front.certificates.has('c'))
  await assert.rejects(handover.put(issuedAs('old'), signal), (error) => isCloudError(error, 'conflict'))
  assert.ok(!front.certificates.has('c'))
})
