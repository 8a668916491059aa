import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { describe, test, type TestContext } from 'node:test'
import { referenceOf } from '#lib/image-reference.ts'
import type { DockerApi } from './docker.ts'
import { addUp, isFinal, openImages } from './images.ts'

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

const LOGIN = { serveraddress: 'r.example', username: 'a', password: 'secret' }
const HOLDER = { tenant: 'one', image: 'r.example/app:1', registry: { server: 'r.example', username: 'a' } }
const STRANGER = { tenant: 'other', image: 'r.example/app:1' }
const quiet = () => {}

/** A Docker with images by their names, whose pulls end as the test says. */
async function world(t: TestContext, here: readonly (readonly [string, string])[] = []) {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-images-'))
  // What was broken off may be written down just now.
  t.after(() => rm(folder, { recursive: true, maxRetries: 10 }))
  const docker = { images: new Map(here), pulling: new PassThrough(), pulls: 0 }
  const began = new EventTarget()
  const api = {
    image: (reference: string) => Promise.resolve(docker.images.get(reference)),
    imageIds: () => Promise.resolve(new Set(docker.images.values())),
    pull(_: string, __: unknown, signal: AbortSignal) {
      docker.pulling = new PassThrough({ signal })
      docker.pulls++
      began.dispatchEvent(new Event('pull'))
      return Promise.resolve(docker.pulling)
    },
  } as unknown as DockerApi
  const open = async () => await openImages(api, folder)
  return { docker, open, pull: async () => await once(began, 'pull') }
}

describe('an image that a login brings', () => {
  const never = new AbortController().signal

  test('is for nobody else from the moment that Docker has it', async (t) => {
    const { docker, open, pull } = await world(t)
    const images = await open()
    const begun = pull()
    const fetched = images.fetch(HOLDER, LOGIN, quiet, never)
    await begun
    docker.images.set(HOLDER.image, 'id')
    assert.equal(await images.has(STRANGER), false)
    docker.pulling.end()
    await fetched
    assert.deepEqual([await images.has(HOLDER), await images.has(STRANGER)], [true, false])
  })

  test('nor when whoever pulled it was broken off before it was noted whose it is', async (t) => {
    const { docker, open, pull } = await world(t)
    const stop = new AbortController()
    const begun = pull()
    const images = await open()
    const fetched = images.fetch(HOLDER, LOGIN, quiet, stop.signal)
    await begun
    docker.images.set(HOLDER.image, 'id')
    stop.abort()
    await assert.rejects(fetched)
    for (const it of [images, await open()]) assert.equal(await it.has(STRANGER), false)
    // Another's wrong password shows nothing of it.
    const next = await open()
    const refused = pull()
    const wrong = next.fetch({ ...HOLDER, tenant: 'other' }, { ...LOGIN, password: 'guess' }, quiet, never)
    await refused
    docker.pulling.end('{"error":"denied"}')
    await assert.rejects(wrong)
    assert.equal(await next.has(STRANGER), false)
    const again = pull()
    const right = next.fetch(HOLDER, LOGIN, quiet, never)
    await again
    docker.pulling.end()
    await right
    assert.deepEqual([await next.has(HOLDER), await next.has(STRANGER)], [true, false])
  })

  test('stays for everyone that was so before', async (t) => {
    const { docker, open, pull } = await world(t, [[HOLDER.image, 'id']])
    const images = await open()
    await images.fetch(STRANGER, undefined, quiet, never)
    assert.equal(docker.pulls, 0)
    // A newer one of the same name is on its way, and is broken off.
    docker.images.delete(HOLDER.image)
    docker.images.set('r.example/app:latest', 'id')
    const stop = new AbortController()
    const begun = pull()
    const fetched = images.fetch(HOLDER, LOGIN, quiet, stop.signal)
    await begun
    stop.abort()
    await assert.rejects(fetched)
    assert.equal(await images.has({ ...STRANGER, image: 'r.example/app:latest' }), true)
  })
})
