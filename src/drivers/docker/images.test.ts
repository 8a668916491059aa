import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { referenceOf } from '#lib/image-reference.ts'
import { addUp, isFinal } from './images.ts'

describe('images', () => {
  test('a name without a tag is its latest', () => {
    assert.equal(referenceOf('nginx'), 'nginx:latest')
    assert.equal(referenceOf('host:5000/nginx'), 'host:5000/nginx:latest')
    assert.equal(referenceOf('nginx:1'), 'nginx:1')
    assert.equal(referenceOf('nginx@sha256:ab'), 'nginx@sha256:ab')
  })

  test('which refusals of a registry are for good', () => {
    for (const message of [
      "pull access denied for x, repository does not exist or may require 'docker login': denied",
      'manifest for x:1 not found: manifest unknown: manifest unknown',
      'Head "http://r/v2/x/manifests/1": no basic auth credentials',
      'unauthorized: authentication required',
    ]) {
      assert.equal(isFinal(message), true, message)
    }
    for (const message of [
      'Get "https://r/v2/": dial tcp: lookup r on 1.1.1.1:53: no such host',
      'Get "http://127.0.0.1:5000/v2/": dial tcp 127.0.0.1:5000: connect: connection refused',
      'toomanyrequests: You have reached your pull rate limit',
      'net/http: request canceled (Client.Timeout exceeded)',
      'unexpected EOF',
    ]) {
      assert.equal(isFinal(message), false, message)
    }
  })

  test('progress adds up the layers', () => {
    const layers = new Map<string, { done: number; total: number }>()
    const say = (id: string, status: string, current?: number, total?: number) =>
      addUp(layers, {
        id,
        status,
        ...(current === undefined ? {} : { progressDetail: { current, total: total ?? 0 } }),
      })
    assert.deepEqual(say('a', 'Pulling fs layer'), { doneBytes: 0, totalBytes: 0 })
    assert.deepEqual(say('a', 'Downloading', 10, 100), { doneBytes: 10, totalBytes: 100 })
    assert.deepEqual(say('b', 'Downloading', 20, 50), { doneBytes: 30, totalBytes: 150 })
    assert.deepEqual(say('a', 'Download complete'), { doneBytes: 120, totalBytes: 150 })
    assert.deepEqual(say('a', 'Extracting', 5, 100), { doneBytes: 120, totalBytes: 150 })
    assert.deepEqual(say('b', 'Pull complete'), { doneBytes: 150, totalBytes: 150 })
  })
})
