import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { appendFile, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import fc from 'fast-check'
import { diskImagesConformance, seenAs } from '#cloud/compute/disk-images.conformance.ts'
import { guardedOpener } from '#lib/guarded.ts'
import { createIds } from '#lib/ids.ts'
import { systemClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import { simulatedImages } from '#drivers/simulated/images.ts'
import { fetched } from './fetch.ts'
import { formatFault, HEAD_BYTES } from './format.ts'
import { openDiskImages } from './images.ts'
import { write } from './writer.ts'

const never = new AbortController().signal
const ids = createIds(systemClock)
const MIB = 1_048_576

/** The header of a qcow2 image of nothing. */
function qcow2({ version = 3, backing = 0n, features = 0n } = {}): Buffer {
  const head = Buffer.alloc(104)
  head.write('QFI\xFB', 'latin1')
  head.writeUInt32BE(version, 4)
  head.writeBigUInt64BE(backing, 8)
  head.writeBigUInt64BE(features, 72)
  return head
}
function iso(): Buffer {
  const disc = Buffer.alloc(40_960)
  disc.write('CD001', 32_769)
  return disc
}

/** A folder, the driver on it and a server to fetch from. */
async function scene(listener: RequestListener = (_, response) => response.end('content')) {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-images-'))
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const open = async (more: { arrivalMsMax?: number } = {}) =>
    await openDiskImages({ folder, open: guardedOpener(['127.0.0.0/8']), log: silentLog, ...more })
  const driver = await open()
  return {
    folder,
    driver,
    again: open,
    urlOf: (path = '/') => `http://127.0.0.1:${port}${path}`,
    async [Symbol.asyncDispose]() {
      await driver.close()
      server.closeAllConnections()
      server.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

diskImagesConformance('files', scene)
diskImagesConformance('simulated', async () => {
  const driver = simulatedImages(systemClock)
  return await Promise.resolve({
    driver,
    urlOf: () => 'http://images.test/a.raw',
    [Symbol.asyncDispose]: async () => await Promise.resolve(),
  })
})

test('a file is of its format or said not to be', () => {
  const fine = [
    ['qcow2', qcow2()],
    ['qcow2', qcow2({ version: 2 })],
    ['img', qcow2()],
    ['img', Buffer.from('anything')],
    ['raw', Buffer.from('anything')],
    ['iso', iso()],
  ] as const
  for (const [format, bytes] of fine) assert.equal(formatFault(format, bytes), undefined, format)
  const wrong = [
    ['qcow2', Buffer.from('anything'), /no qcow2/],
    ['qcow2', qcow2().subarray(0, 50), /ends within/],
    ['qcow2', qcow2({ version: 1 }), /version 1/],
    ['qcow2', qcow2({ backing: 104n }), /stands on another file/],
    ['img', qcow2({ backing: 104n }), /stands on another file/],
    ['qcow2', qcow2({ features: 4n }), /data is in another file/],
    ['raw', qcow2(), /not a raw one/],
    ['iso', Buffer.from('anything'), /no ISO/],
    ['img', Buffer.alloc(0), /empty/],
  ] as const
  for (const [format, bytes, says] of wrong) assert.match(formatFault(format, bytes) ?? '', says)
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 200 }),
      fc.constantFrom('qcow2', 'img', 'raw', 'iso'),
      (bytes, format) => {
        formatFault(format, Buffer.concat([qcow2().subarray(0, 8), bytes]))
      },
    ),
  )
})

test('what is written is what came, however it was cut, and zeros take no room', async () => {
  await using it = await scene()
  const bytes = Buffer.concat([
    Buffer.from('head'),
    Buffer.alloc(4 * MIB),
    Buffer.from('tail'),
    Buffer.alloc(MIB),
  ])
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: MIB }), { maxLength: 8 }), async (cuts) => {
      const chunks: Buffer[] = []
      let at = 0
      for (const cut of [...cuts, bytes.length]) {
        if (at < bytes.length) chunks.push(bytes.subarray(at, at + cut))
        at += cut
      }
      const [part, whole] = [join(it.folder, 'a.part'), join(it.folder, 'a')]
      const how = { format: 'raw', onProgress() {} } as const
      const content = await write(Readable.from(chunks), part, () => whole, how, never)
      assert.equal(content.sha256, createHash('sha256').update(bytes).digest('hex'))
      assert.ok((await readFile(whole)).equals(bytes))
      const { size, blocks, mode } = await stat(whole)
      assert.equal(size, bytes.length)
      assert.ok(blocks * 512 < MIB, `${blocks} blocks`)
      assert.equal(mode & 0o777, 0o600)
      await rm(whole)
    }),
    { numRuns: 20 },
  )
})

test('more than may be, and what stays silent, is given up and leaves nothing', async () => {
  await using it = await scene()
  const [part, whole] = [join(it.folder, 'a.part'), join(it.folder, 'a')]
  const take = async (source: Readable, how: object): Promise<unknown> =>
    await write(source, part, () => whole, { format: 'raw', onProgress() {}, ...how }, never)
  const large = { code: 'invalid', details: { field: 'file', rule: 'too_large' } }
  const ten = (): Readable => Readable.from([Buffer.from('0123456789')])
  await assert.rejects(take(ten(), { bytesMax: 9 }), large)
  await assert.rejects(take(ten(), { bytesMax: 9, totalBytes: 10 }), large)
  await assert.rejects(take(ten(), { totalBytes: Number.MAX_SAFE_INTEGER, bytesMax: Infinity }), {
    code: 'exhausted',
  })
  const silent = new Readable({ read() {} })
  await assert.rejects(take(silent, { silenceMs: 20 }), /nothing of it came/)
  assert.ok(silent.destroyed)
  assert.deepEqual(await readdir(it.folder), [])
})

test('what a crash cut off is gone at the next start, what was whole is there', async () => {
  await using it = await scene()
  const [id, cut] = [ids.next(), ids.next()]
  const content = await it.driver.receive(id, { format: 'raw' }, Readable.from([Buffer.from('a')]))
  await writeFile(join(it.folder, `${cut}.part`), 'half')
  assert.deepEqual((await it.driver.list(never)).toSorted(), [id, cut].toSorted(), 'the audit sees both')
  const next = await it.again()
  assert.deepEqual(await next.observe(id, never), { state: 'present', content })
  assert.deepEqual(await next.list(never), [id])
  await writeFile(join(it.folder, `${cut}.part`), 'half')
  await next.remove(cut, never)
  assert.deepEqual(await next.list(never), [id])
})

test('an upload shows how far it is, meets no other, and ends when it is removed', async () => {
  await using it = await scene()
  const id = ids.next()
  const source = new Readable({ read() {} })
  const file = { format: 'raw', totalBytes: 2 * HEAD_BYTES } as const
  const done = it.driver.receive(id, file, source)
  const broken = assert.rejects(done, { code: 'gone' })
  source.push(Buffer.alloc(HEAD_BYTES, 'a'))
  const progress = { doneBytes: HEAD_BYTES, totalBytes: 2 * HEAD_BYTES }
  while (
    JSON.stringify(await it.driver.observe(id, never)) !== JSON.stringify({ state: 'arriving', progress })
  )
    await new Promise((wake) => setTimeout(wake, 5))
  await assert.rejects(it.driver.receive(id, file, Readable.from([])), { code: 'conflict' })
  await it.driver.remove(id, never)
  await broken
  assert.deepEqual(await readdir(it.folder), [])
})

test('what takes too long is given up for good', async () => {
  await using it = await scene((_, response) => void response.writeHead(200).write('a'))
  const driver = await it.again({ arrivalMsMax: 50 })
  const [id, sent] = [ids.next(), ids.next()]
  await driver.fetch({ id, url: it.urlOf(), format: 'raw' }, never)
  const failed = { state: 'failed', message: 'it took longer than 0.05 s', final: true }
  assert.deepEqual(await seenAs(driver, id, 'failed'), failed)
  const source = new Readable({ read() {} })
  source.push('a')
  await assert.rejects(driver.receive(sent, { format: 'raw' }, source), { code: 'unavailable' })
  assert.deepEqual(await driver.list(never), [])
})

test('one that waits for its turn is removed at once', async () => {
  let asked = 0
  await using it = await scene(() => void asked++)
  const all = Array.from({ length: 5 }, () => ids.next())
  for (const id of all) await it.driver.fetch({ id, url: it.urlOf(), format: 'raw' }, never)
  const last = all.at(-1) ?? ''
  assert.deepEqual(await it.driver.observe(last, never), { state: 'arriving' })
  await it.driver.remove(last, never)
  assert.equal(await it.driver.observe(last, never), undefined)
  await it.driver.close()
  assert.ok(asked <= 4, `${asked} were asked`)
})

/** A server of one image that takes ranges, each answer cut off after so much until told; and the questions it was asked. */
function ranged(bytes: Buffer) {
  const it = { cutAt: MIB, headers: { etag: '"one"' } as Record<string, string>, asked: [] as string[] }
  const listener: RequestListener = (request, response) => {
    const { range = '', 'if-range': seen } = request.headers
    it.asked.push(range)
    const from = Number(/^bytes=(\d+)-$/.exec(range)?.[1] ?? 0)
    const isPart = from > 0 && seen === (it.headers['etag'] ?? it.headers['last-modified'])
    const some = bytes.subarray(isPart ? from : 0)
    response.writeHead(isPart ? 206 : 200, {
      'accept-ranges': 'bytes',
      'content-length': some.length,
      ...(isPart ? { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {}),
      ...it.headers,
    })
    if (it.cutAt < some.length) response.write(some.subarray(0, it.cutAt))
    else response.end(some)
  }
  return { it, listener }
}

test('a fetch goes on after a new start where its server lets it, and begins anew where it does not', async () => {
  const bytes = Buffer.concat([randomBytes(2 * MIB), Buffer.alloc(MIB), randomBytes(100_000)])
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const { it: server, listener } = ranged(bytes)
  await using it = await scene(listener)
  /** Begins a fetch, stops the process in the midst of it, and gives what the next one asks for and has. */
  const cut = async (
    meanwhile: (id: string) => Promise<unknown> | void = () => {},
    path = '/a.raw',
  ): Promise<string[]> => {
    const id = ids.next()
    server.cutAt = 2.5 * MIB
    server.asked.length = 0
    const first = await it.again()
    await first.fetch({ id, url: it.urlOf('/a.raw'), format: 'raw' }, never)
    for (;;) {
      const seen = await first.observe(id, never)
      if (seen?.state === 'arriving' && (seen.progress?.doneBytes ?? 0) >= server.cutAt) break
      await new Promise((wake) => setTimeout(wake, 5))
    }
    await first.close()
    await meanwhile(id)
    server.cutAt = Infinity
    const next = await it.again()
    await next.fetch({ id, url: it.urlOf(path), format: 'raw' }, never)
    const { content } = await seenAs(next, id, 'present')
    assert.deepEqual(content, { format: 'raw', sizeBytes: bytes.length, sha256 })
    const [name = '', ...more] = (await readdir(it.folder)).filter((one) => one.startsWith(id))
    assert.deepEqual(more, [], 'nothing else is left')
    assert.ok((await readFile(join(it.folder, name))).equals(bytes))
    return [...server.asked]
  }
  const went = `bytes=${2.5 * MIB}-`
  assert.deepEqual(await cut(), ['', went])
  // More was written than is known to be on the disk, as after a power cut.
  assert.deepEqual(await cut(async (id) => await appendFile(join(it.folder, `${id}.begun.part`), 'torn')), [
    '',
    went,
  ])
  assert.deepEqual(await cut(undefined, '/b.raw'), ['', ''], 'another address')
  const anew = ['', went]
  assert.deepEqual(await cut(() => void (server.headers = { etag: '"two"' })), anew, 'another content')
  assert.deepEqual(await cut(async (id) => await rm(join(it.folder, `${id}.begun.part`))), ['', ''])
  assert.deepEqual(await cut(async (id) => await rm(join(it.folder, `${id}.begun`))), ['', ''])
  server.headers = { 'last-modified': 'Wed, 01 Jan 2025 00:00:00 GMT' }
  assert.deepEqual(await cut(), ['', went])
  server.headers = {}
  assert.deepEqual(await cut(), ['', ''], 'nothing by which it would be known again')
  server.headers = { etag: 'W/"weak"' }
  assert.deepEqual(await cut(), ['', ''])
})

test('a part that is none of what was begun is not believed', async () => {
  const bytes = randomBytes(MIB)
  const goOn = { validator: '"one"', totalBytes: bytes.length, doneBytes: 1000 }
  for (const [status, headers] of [
    [206, { 'content-range': `bytes 0-${MIB - 1}/${MIB}`, etag: '"one"' }],
    [206, { 'content-range': `bytes 1000-${MIB - 1}/${MIB + 1}`, etag: '"one"' }],
    [206, { 'content-range': `bytes 1000-${MIB - 1}/${MIB}`, etag: '"two"' }],
    [206, { etag: '"one"' }],
    [416, {}],
  ] as const) {
    await using it = await scene((request, response) => {
      if (request.headers.range === undefined) response.end(bytes)
      else response.writeHead(status, headers).end(bytes)
    })
    const { source, from } = await fetched(guardedOpener(['127.0.0.0/8']), it.urlOf(), never, goOn)
    source.destroy()
    assert.equal(from, 0, JSON.stringify(headers))
  }
})

test('a fetch follows redirects and says why it failed and whether for good', async () => {
  const answers: Record<string, RequestListener> = {
    '/moved.iso': (_, response) => response.writeHead(302, { location: '/there' }).end(),
    '/there': (_, response) =>
      response.writeHead(200, { 'content-type': 'application/x-iso9660-image' }).end(iso()),
    '/page': (_, response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<html>'),
    '/busy': (_, response) => response.writeHead(503).end(),
    '/none': (_, response) => response.writeHead(404).end(),
    '/packed': (_, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end('a'),
    '/large': (_, response) => response.writeHead(200, { 'content-length': 20 * 1024 * MIB }).end('a'),
    '/breaks': (_, response) => {
      response.writeHead(200, { 'content-length': 10 }).write('a')
      setTimeout(() => response.destroy(), 10)
    },
    '/inside': (_, response) => response.writeHead(302, { location: 'http://10.0.0.1/' }).end(),
  }
  await using it = await scene((request, response) => answers[request.url ?? '']?.(request, response))
  const fetch = async (path: string, format: 'iso' | 'raw' = 'raw'): Promise<string> => {
    const id = ids.next()
    await it.driver.fetch({ id, url: it.urlOf(path), format }, never)
    return id
  }
  const { content } = await seenAs(it.driver, await fetch('/moved.iso', 'iso'), 'present')
  assert.deepEqual([content.format, content.sizeBytes], ['iso', 40_960])
  const failing = [
    ['/page', /text\/html/, true],
    ['/busy', /503/, false],
    ['/none', /404/, true],
    ['/packed', /packed/, true],
    ['/large', /more than 10737418240 bytes/, true],
    ['/breaks', /it broke off/, false],
    ['/inside', /may not be asked/, true],
  ] as const
  for (const [path, says, final] of failing) {
    const seen = await seenAs(it.driver, await fetch(path), 'failed')
    assert.match(seen.message, says, path)
    assert.equal(seen.final, final, path)
  }
  assert.equal((await it.driver.list(never)).length, 1, 'nothing is left of what failed')
})
