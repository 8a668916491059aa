import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { EVERY_PROMISE, NETWORK_PROMISES, type NetworkPromise } from '#cloud/network/promises.driver.ts'
import { BRIDGE_PROMISES } from './docker/bridge-promises.ts'

/** What each driver that has packets promises, in the order of the table's columns. */
const DRIVERS: Readonly<Record<string, readonly NetworkPromise[]>> = {
  linux: EVERY_PROMISE,
  'docker-bridge': BRIDGE_PROMISES,
}

test('docs/network.md says what each network driver promises', () => {
  const text = readFileSync(new URL('../../docs/network.md', import.meta.url), 'utf8')
  const [, section = ''] = text.split('## What is promised')
  const rows = section.split('\n## ')[0]?.split('\n') ?? []
  const table = [
    ['promise', ...Object.keys(DRIVERS)],
    ['---', ...Object.keys(DRIVERS).map(() => '---')],
    ...EVERY_PROMISE.map((it) => [
      NETWORK_PROMISES[it],
      ...Object.values(DRIVERS).map((promises) => (promises.includes(it) ? 'yes' : 'no')),
    ]),
  ].map((cells) => `| ${cells.join(' | ')} |`)
  assert.deepEqual(
    rows.filter((it) => it.startsWith('|')),
    table,
  )
})
