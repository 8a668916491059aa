import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { DockerApi } from './docker.ts'
import { cgroupPaths, fieldOf, sampler, trafficOf, usageOf } from './samples.ts'

describe('samples from the kernel', () => {
  test('control groups of both versions', () => {
    const first = cgroupPaths(
      '9:name=systemd:/docker/a\n4:memory:/docker/a\n2:cpu,cpuacct:/docker/a\n0::/x\n',
    )
    assert.equal(first.get('memory'), '/docker/a')
    assert.equal(first.get('cpuacct'), '/docker/a')
    assert.equal(cgroupPaths('0::/system.slice/docker-a.scope\n').get(''), '/system.slice/docker-a.scope')
  })

  test('fields and traffic', () => {
    assert.equal(fieldOf('cache 1\ntotal_inactive_file 4096\ninactive_file 5\n', 'inactive_file'), 5)
    assert.equal(fieldOf('', 'x'), 0)
    const text = [
      'Inter-|   Receive                                                |  Transmit',
      ' face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets',
      '    lo:    1000      10    0    0    0     0          0         0     1000      10',
      '  eth0:  123456     100    0    0    0     0          0         0   654321      90',
      '',
    ].join('\n')
    assert.deepEqual(trafficOf(text), { receivedBytes: 123_456, sentBytes: 654_321 })
  })

  test('a process that is not there has none', async () => {
    await assert.rejects(usageOf(2 ** 22 + 1))
  })
})

test('a clock that is set back makes no use of a processor', async () => {
  let [now, steady, spentSeconds] = [10_000, 500, 1]
  const stats = () =>
    Promise.resolve({ cpu_stats: { cpu_usage: { total_usage: spentSeconds * 1e9 } }, memory_stats: {} })
  const sample = sampler(
    { stats } as unknown as DockerApi,
    () => now,
    () => steady,
  )
  // A process that is not there: what it used is Docker's to say.
  const running = [{ id: 'a', runtimeId: 'c1', pid: -1, startedAtMs: 0 }]
  const used = async () => (await sample(running)).map((it) => it.cpuMillicores)
  assert.deepEqual(await used(), [100])
  spentSeconds += 1
  now = 9000
  steady += 5000
  assert.deepEqual(await used(), [200])
  // Before it began, by the clock, and nothing was seen of it.
  now = -1
  assert.deepEqual(await sample([]), [])
  assert.deepEqual(await used(), [0])
})
