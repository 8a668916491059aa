import assert from 'node:assert/strict'
import { test } from 'node:test'
import { diskImage } from '#cloud/compute/disk-image.kind.ts'
import { type Person, testDialect } from './thecloud.testing.ts'

const ABOUT = { name: 'debian', os: 'linux', version: '13' }
const never = new AbortController().signal

async function world() {
  const it = await testDialect({ settings: { allowedNetworks: ['192.0.2.0/24'] } })
  return {
    it,
    ann: await it.person('ann'),
    bob: await it.person('bob'),
    settle: async () => await it.world.settle(),
    [Symbol.asyncDispose]: async () => await it[Symbol.asyncDispose](),
  }
}

const form = (content: string, filename = 'disk.raw') => ({
  raw: `--b\r\ncontent-disposition: form-data; name="file"; filename="${filename}"\r\n\r\n${content}\r\n--b--\r\n`,
  headers: { 'content-type': 'multipart/form-data; boundary=b' },
})
const upload = async (by: Person, id: string, how = form('content')) =>
  await by.call('POST', `/images/${id}/upload`, undefined, how)

test('an image is registered, uploaded to once, read, listed and deleted with its file', async () => {
  await using w = await world()
  const made = await w.ann.data('POST', '/images', { ...ABOUT, description: 'a disk' })
  assert.deepEqual(
    [made.status, made.is_public, made.user_id, made.tenant_id, made.size_gb, made.file_path, made.format],
    ['PENDING', false, w.ann.id, w.ann.tenant, 1, '', 'qcow2'],
  )
  await w.settle()
  assert.equal((await w.ann.data('GET', `/images/${made.id}`)).status, 'PENDING')
  const done = await upload(w.ann, made.id, form('content', 'disk.iso'))
  assert.deepEqual([done.status, done.body.data], [200, { status: 'uploaded' }])
  await w.settle()
  const now = await w.ann.data('GET', `/images/${made.id}`)
  assert.deepEqual([now.status, now.format, now.file_path], ['ACTIVE', 'iso', `${made.id}.iso`])
  assert.deepEqual(await w.ann.data('GET', '/images'), [now])
  const kept = (await w.it.world.engine.get(diskImage, w.ann.tenant, made.id))?.status
  assert.equal(kept?.sizeBytes, 7)
  assert.match(kept?.sha256 ?? '', /^[0-9a-f]{64}$/)
  const again = await upload(w.ann, made.id)
  assert.deepEqual([again.status, again.body.error.type], [400, 'INVALID_INPUT'])
  assert.equal((await w.ann.data('DELETE', `/images/${made.id}`)).message, 'image deleted')
  assert.equal((await w.ann.call('GET', `/images/${made.id}`)).status, 404)
  await w.settle()
  assert.deepEqual(await w.it.world.images.list(never), [])
})

test('a refused upload leaves the image as it was', async () => {
  await using w = await world()
  const { id } = await w.ann.data('POST', '/images', ABOUT)
  const plain = { headers: { 'content-type': 'application/json' }, raw: '{}' }
  for (const how of [form(''), plain, { ...form('a'), raw: 'no form' }]) {
    const { status, body } = await upload(w.ann, id, how)
    assert.deepEqual([status, body.error.type], [400, 'INVALID_INPUT'], how.raw)
  }
  await w.settle()
  assert.equal((await w.ann.data('GET', `/images/${id}`)).status, 'PENDING')
  assert.equal((await upload(w.ann, id)).status, 200)
  const [, ...long] = Array.from({ length: 257 }, () => 'a')
  assert.equal((await w.ann.call('POST', '/images', { ...ABOUT, name: long.join('') })).status, 400)
  for (const missing of ['name', 'os', 'version'])
    assert.equal((await w.ann.call('POST', '/images', { ...ABOUT, [missing]: '' })).status, 400, missing)
})

test('others see what is public, without its secrets, and change nothing', async () => {
  await using w = await world()
  const url = 'https://images.example/debian.qcow2?key=hidden'
  const open = await w.ann.data('POST', '/images/import', { ...ABOUT, url, is_public: true })
  const own = await w.ann.data('POST', '/images', ABOUT)
  const seen = await w.bob.data('GET', '/images')
  assert.deepEqual(
    seen.map((it: { id: string }) => it.id),
    [open.id],
  )
  assert.equal(seen[0].source_url, 'https://images.example/debian.qcow2')
  assert.ok(!JSON.stringify(seen).includes('hidden'))
  assert.equal((await w.bob.data('GET', `/images/${open.id}`)).user_id, w.ann.id)
  for (const [id, status] of [
    [open.id, 403],
    [own.id, 404],
  ]) {
    assert.equal((await w.bob.call('DELETE', `/images/${id}`)).status, status)
    assert.equal((await upload(w.bob, id)).status, status)
  }
  assert.equal((await w.bob.call('GET', `/images/${own.id}`)).status, 404)
  assert.equal((await w.ann.data('GET', '/images')).length, 2)
})

test('in one tenant an image is its maker’s and the owners’', async () => {
  await using w = await world()
  await w.ann.data('POST', `/tenants/${w.ann.tenant}/members`, { user_id: w.bob.id, role: 'developer' })
  const at = { tenant: w.ann.tenant }
  const { id: hers } = await w.ann.data('POST', '/images', ABOUT)
  const { id: his } = await w.bob.data('POST', '/images', ABOUT, at)
  assert.equal((await w.bob.data('GET', '/images', undefined, at)).length, 2)
  assert.equal((await w.bob.call('DELETE', `/images/${hers}`, undefined, at)).status, 403)
  const how = { ...form('content'), ...at }
  assert.equal((await w.bob.call('POST', `/images/${hers}/upload`, undefined, how)).status, 403)
  assert.equal((await w.bob.call('POST', `/images/${his}/upload`, undefined, how)).status, 200)
  assert.equal((await w.ann.call('DELETE', `/images/${his}`)).status, 200)
})

test('an import is pending at once and comes by itself, or says why not', async () => {
  await using w = await world()
  const made = await w.ann.call('POST', '/images/import', { ...ABOUT, url: 'http://images.example/a.ISO' })
  assert.deepEqual([made.status, made.body.data.status, made.body.data.format], [202, 'PENDING', 'iso'])
  assert.equal((await upload(w.ann, made.body.data.id)).status, 400)
  await w.settle()
  const { status, size_gb: size } = await w.ann.data('GET', `/images/${made.body.data.id}`)
  assert.deepEqual([status, size], ['ACTIVE', 1])
  const allowed = await w.ann.data('POST', '/images/import', { ...ABOUT, url: 'http://192.0.2.1/a.img' })
  w.it.world.images.pretend(allowed.id, { state: 'failed', message: 'it is a page', final: true })
  await w.settle()
  assert.equal((await w.ann.data('GET', `/images/${allowed.id}`)).status, 'ERROR')
  for (const url of [
    'ftp://images.example/a',
    'http://127.0.0.1/a',
    'http://localhost:8080/a',
    'http://169.254.169.254/latest',
    'http://[::ffff:10.0.0.1]/a',
    'http://ann:secret@images.example/a',
    'images.example/a',
  ]) {
    const { status: refused, body } = await w.ann.call('POST', '/images/import', { ...ABOUT, url })
    assert.deepEqual([refused, body.error.type], [400, 'INVALID_INPUT'], url)
    assert.ok(!JSON.stringify(body).includes('secret'))
  }
})

test('a tenant has only so many images', async () => {
  await using w = await world()
  const statuses = []
  for (let n = 0; n < 21; n++) statuses.push((await w.ann.call('POST', '/images', ABOUT)).status)
  assert.deepEqual([statuses.filter((it) => it === 201).length, statuses.at(-1)], [20, 429])
  const [first] = await w.ann.data('GET', '/images')
  await w.ann.data('DELETE', `/images/${first.id}`)
  assert.equal((await w.ann.call('POST', '/images', ABOUT)).status, 201)
  assert.equal((await w.bob.call('POST', '/images', ABOUT)).status, 201)
})

test('no instance is launched with one, and others’ names forbid no container', async () => {
  await using w = await world()
  const { id } = await w.ann.data('POST', '/images', { ...ABOUT, is_public: true })
  const launch = async (by: Person, image: string) =>
    await by.call('POST', '/instances', { name: 'web', image })
  for (const [by, image] of [
    [w.ann, id],
    [w.ann, 'debian'],
    [w.bob, id],
  ] as const) {
    const { status, body } = await launch(by, image)
    assert.deepEqual([status, body.error.type], [400, 'INVALID_INPUT'])
    assert.match(body.error.message, /needs a virtual machine/)
  }
  assert.equal((await launch(w.bob, 'debian')).status, 202)
  assert.equal((await launch(w.ann, 'docker.io/library/debian')).status, 202)
})
