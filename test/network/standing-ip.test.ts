// Needs root.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { after, beforeEach, describe, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { CommandFailed } from '#lib/command.ts'
import { endIp, ipLines } from '#drivers/linux/standing-ip.ts'
import { enterSandbox, sh, tryTo } from './sandbox.ts'

await enterSandbox(import.meta.filename)

const NAMESPACE = 'asip-a'
const links = (): string => sh('ip', '-n', NAMESPACE, '-o', 'link', 'show')
const own = (): string[] =>
  readdirSync('/proc').filter((it) => {
    if (!/^\d+$/.test(it)) return false
    const command = existsSync(`/proc/${it}/cmdline`) ? readFileSync(`/proc/${it}/cmdline`, 'utf8') : ''
    return command.includes(NAMESPACE)
  })

describe('an ip that stays', () => {
  beforeEach(async () => {
    await endIp(NAMESPACE)
    tryTo('ip', 'netns', 'del', NAMESPACE)
    sh('ip', 'netns', 'add', NAMESPACE)
  })
  after(async () => {
    await endIp(NAMESPACE)
    tryTo('ip', 'netns', 'del', NAMESPACE)
  })

  test('has done all when it answers, by one process for all that comes at once and after', async () => {
    const names = Array.from({ length: 30 }, (_, at) => `d${at}`)
    await Promise.all(
      names.map((it) => ipLines(NAMESPACE, [`link add ${it} type bridge`, `link set ${it} up`])),
    )
    assert.equal(links().match(/: d\d+:/g)?.length, 30)
    const [first, ...more] = own()
    assert.deepEqual(more, [])
    await ipLines(NAMESPACE, ['link del d0'])
    assert.deepEqual(own(), [first])
  })

  test('stops at what is refused and says why; what comes next is done all the same', async () => {
    const refused = ipLines(NAMESPACE, [
      'link add x1 type bridge',
      'link add x1 type bridge',
      'link add x2 type bridge',
    ])
    const next = ipLines(NAMESPACE, ['link add x3 type bridge'])
    await assert.rejects(refused, (it) => it instanceof CommandFailed && /File exists/.test(it.stderr))
    await next
    assert.match(links(), / x1: [\s\S]* x3: /)
    assert.doesNotMatch(links(), / x2: /)
  })

  test('knows a link that somebody made anew under the name of before', async () => {
    await ipLines(NAMESPACE, ['link add x1 type bridge', 'link set x1 up'])
    sh('ip', '-n', NAMESPACE, 'link', 'del', 'x1')
    sh('ip', '-n', NAMESPACE, 'link', 'add', 'x1', 'type', 'bridge')
    await ipLines(NAMESPACE, ['link add x2 type bridge', 'link set x1 up', 'link set x2 up'])
    assert.match(links(), /x1: <[^>]*\bUP\b[\s\S]*x2: <[^>]*\bUP\b/)
  })

  test('is in the namespace that has the name now', async () => {
    await ipLines(NAMESPACE, ['link add x1 type bridge'])
    sh('ip', 'netns', 'del', NAMESPACE)
    await assert.rejects(ipLines(NAMESPACE, ['link add x2 type bridge']), CommandFailed)
    sh('ip', 'netns', 'add', NAMESPACE)
    await ipLines(NAMESPACE, ['link add x3 type bridge'])
    assert.match(links(), / x3: /)
    assert.doesNotMatch(links(), / x1: /)
  })

  test('of many namespaces some stay alone', async () => {
    const names = Array.from({ length: 40 }, (_, at) => `${NAMESPACE}-${at}`)
    for (const it of names) sh('ip', 'netns', 'add', it)
    await Promise.all(names.map((it) => ipLines(it, ['link add x1 type bridge'])))
    for (let tries = 0; own().length > 16 && tries < 50; tries++) await pause(10)
    assert.equal(own().length, 16)
    await Promise.all(names.map((it) => ipLines(it, ['link del x1'])))
    await Promise.all(names.map(endIp))
    for (const it of names) sh('ip', 'netns', 'del', it)
  })

  test('ends with who gives up, when it is ended, and by itself when nothing comes', async () => {
    const stop = new AbortController()
    const work = ipLines(NAMESPACE, ['link add x1 type bridge'], { signal: stop.signal })
    stop.abort(new Error('given up'))
    await assert.rejects(work, /given up/)
    await ipLines(NAMESPACE, ['link add x2 type bridge'])
    assert.equal(own().length, 1)
    await endIp(NAMESPACE)
    assert.deepEqual(own(), [])
    await ipLines(NAMESPACE, ['link add x3 type bridge'])
    for (let tries = 0; own().length && tries < 100; tries++) await pause(100)
    assert.deepEqual(own(), [])
  })
})
