import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { cgroupPaths, fieldOf, trafficOf, usageOf } from './samples.ts'

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
