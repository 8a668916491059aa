import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isCloudError } from '#lib/errors.ts'
import {
  CLOUD_OPTIONS,
  cloudArguments,
  keptArguments,
  levelOption,
  ownerOption,
  parse,
  parseListen,
  publishedPortsOption,
  reachable,
} from './options.ts'

describe('--listen', () => {
  test('takes a host or an address with a port, for all dialects or one', () => {
    const read = (text: string) => {
      const { host, port, dialect } = parseListen(text)
      return [host, port, dialect]
    }
    assert.deepEqual(read('127.0.0.1:8080'), ['127.0.0.1', 8080, undefined])
    assert.deepEqual(read('[::1]:443'), ['::1', 443, undefined])
    assert.deepEqual(read('thecloud=localhost:8081'), ['localhost', 8081, 'thecloud'])
  })
  test('refuses everything else', () => {
    for (const text of [
      '',
      '8080',
      'localhost',
      'localhost:',
      'localhost:65536',
      '::1:80',
      '[localhost]:80',
      'a=b=c:1',
    ]) {
      assert.throws(
        () => parseListen(text),
        (error) => isCloudError(error, 'invalid'),
        text,
      )
    }
  })
  test('is reached over loopback when it listens everywhere', () => {
    const there = (text: string) => reachable(parseListen(text))
    assert.equal(there('0.0.0.0:80'), '127.0.0.1:80')
    assert.equal(there('[::]:80'), '[::1]:80')
    assert.equal(there('[fd00::1]:80'), '[fd00::1]:80')
  })
})

test('options of the cloud process are handed on word by word', () => {
  const words = [
    '--allow-network',
    '10.0.0.0/8',
    '--allow-network',
    '192.168.0.0/16',
    '--fabric',
    '100.112.0.0/12',
  ]
  assert.deepEqual(cloudArguments(parse(words, CLOUD_OPTIONS)), words)
  assert.throws(
    () => parse(['--nope'], CLOUD_OPTIONS),
    (error) => isCloudError(error, 'invalid'),
  )
})

test('accounts and levels are read, and nothing else', () => {
  assert.deepEqual(ownerOption('0:65534'), { uid: 0, gid: 65_534 })
  assert.deepEqual(publishedPortsOption('80-90'), { from: 80, to: 90 })
  assert.deepEqual([levelOption(), levelOption('warn')], ['info', 'warn'])
  for (const wrong of [
    () => ownerOption('root'),
    () => ownerOption('1:2:3'),
    () => levelOption('loud'),
    () => publishedPortsOption('0-80'),
    () => parse(['word'], CLOUD_OPTIONS),
  ])
    assert.throws(wrong, (error) => isCloudError(error, 'invalid'))
})

test('options that are not given again stay, and an empty one goes', () => {
  const before = ['--network', 'docker-bridge', '--log-level', 'warn', '--allow-network', '10.0.0.0/8']
  const kept = (...words: string[]): string[] => keptArguments(before, parse(words, CLOUD_OPTIONS))
  assert.deepEqual(kept(), before)
  assert.deepEqual(kept('--log-level', 'debug'), before.with(3, 'debug'))
  assert.deepEqual(kept('--allow-network', '10.1.0.0/16'), before.with(5, '10.1.0.0/16'))
  assert.deepEqual(kept('--allow-network='), before.slice(0, 4))
})
