import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { simulatedClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import { hostNameservers, parseResolvConf } from './nameservers.ts'

test('nameserver lines are read, others are not', () => {
  const text =
    '# nameserver 192.0.2.9\nsearch example.com\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 \n nameserver 192.0.2.8\n' +
    'nameserver dns.example\nnameserver 192.0.2.2\nnameserver 192.0.2.3\noptions ndots:2\n'
  assert.deepEqual(parseResolvConf(text), ['192.0.2.1', '2001:db8::1', '192.0.2.2'])
})

test('the file is read again when it changed, and its loss is survived', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'arcus-nameservers-'))
  try {
    const path = join(directory, 'resolv.conf')
    const clock = simulatedClock()
    let warnings = 0
    const log = { ...silentLog, warn: () => void warnings++ }
    const addresses = hostNameservers(path, clock, log)
    assert.deepEqual([addresses(), warnings], [[], 1])
    await writeFile(path, 'nameserver 192.0.2.1\n')
    assert.deepEqual(addresses(), [], 'it is not looked at for every question')
    await clock.advance(2000)
    assert.deepEqual(addresses(), ['192.0.2.1'])
    await writeFile(path, 'nameserver 192.0.2.1\nnameserver 192.0.2.2\n')
    await clock.advance(2000)
    assert.deepEqual(addresses(), ['192.0.2.1', '192.0.2.2'])
    await rm(path)
    await clock.advance(2000)
    assert.deepEqual([addresses(), addresses(), warnings], [[], [], 2])
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
})
