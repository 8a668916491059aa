import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, rm, stat, unlink } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { simulatedClock, systemClock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'
import { createIds } from '#lib/ids.ts'
import { silentLog } from '#lib/log.ts'
import { type Accept, openSockets, type SocketsOptions } from './sockets.ts'

const ids = createIds(systemClock)
const { signal } = new AbortController()

async function folderOf(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-sockets-'))
  t.after(() => rm(folder, { recursive: true }))
  return folder
}

/** Sockets below a folder, in which each connection is told the replica that it came to. */
async function open(
  t: TestContext,
  folder: string,
  more: Partial<SocketsOptions> = {},
  accept: Accept = (socket, replica) => {
    socket.on('error', () => {}).on('end', () => void socket.end())
    socket.resume().write(replica)
  },
) {
  const sockets = openSockets({
    folder,
    make: async (replica) => void (await mkdir(join(folder, replica), { recursive: true })),
    clock: systemClock,
    log: silentLog,
    ...more,
  })
  await sockets.serve(accept)
  t.after(() => sockets.close())
  return sockets
}

const pathOf = (folder: string, replica: string): string => join(folder, replica, 'api.sock')

async function connected(path: string): Promise<Socket> {
  const socket = connect(path)
  await once(socket, 'connect')
  return socket
}

/** What the other end says first; throws when it does not answer. */
async function said(path: string): Promise<string> {
  const socket = await connected(path)
  try {
    let text = ''
    for await (const data of socket) {
      text += String(data)
      break
    }
    return text
  } finally {
    socket.destroy()
  }
}

test('each socket says which replica it is, and lets every user in', async (t) => {
  const folder = await folderOf(t)
  const sockets = await open(t, folder)
  const [a, b] = [ids.next(), ids.next()]
  await Promise.all([a, b, a].map((it) => sockets.ensure(it, signal)))
  assert.equal(await said(pathOf(folder, a)), a)
  assert.equal(await said(pathOf(folder, b)), b)
  assert.equal((await stat(pathOf(folder, a))).mode & 0o777, 0o666)
  assert.deepEqual((await sockets.list(signal)).toSorted(), [a, b].toSorted())
})

test('a path too long for a socket works all the same', async (t) => {
  const folder = join(await folderOf(t), 'long'.repeat(40))
  await mkdir(folder)
  const sockets = await open(t, folder)
  const id = ids.next()
  await sockets.ensure(id, signal)
  assert.ok((await stat(pathOf(folder, id))).isSocket())
  assert.deepEqual(await readdir(join(folder, id)), ['api.sock'])
})

test('the next process answers in the folders of the one before, which stay the same', async (t) => {
  const folder = await folderOf(t)
  const before = await open(t, folder)
  const id = ids.next()
  await before.ensure(id, signal)
  const { ino } = await stat(join(folder, id))
  await before.close()
  await assert.rejects(connected(pathOf(folder, id)), { code: 'ECONNREFUSED' })
  const after = await open(t, folder)
  assert.equal(await said(pathOf(folder, id)), id)
  assert.equal((await stat(join(folder, id))).ino, ino)
  assert.deepEqual(await after.list(signal), [id])
})

test('one that somebody removed is not listed, and is made again', async (t) => {
  const folder = await folderOf(t)
  const sockets = await open(t, folder)
  const id = ids.next()
  await sockets.ensure(id, signal)
  await unlink(pathOf(folder, id))
  assert.deepEqual(await sockets.list(signal), [])
  await sockets.ensure(id, signal)
  assert.equal(await said(pathOf(folder, id)), id)
  await rm(folder, { recursive: true })
  await mkdir(folder)
  await sockets.ensure(id, signal)
  assert.equal(await said(pathOf(folder, id)), id)
})

test('removing ends what is connected and leaves nothing', async (t) => {
  const folder = await folderOf(t)
  const sockets = await open(t, folder)
  const id = ids.next()
  await sockets.ensure(id, signal)
  const socket = await connected(pathOf(folder, id))
  socket.resume()
  await Promise.all([once(socket, 'close'), sockets.remove(id, signal)])
  assert.deepEqual(await readdir(folder), [])
  await sockets.remove(id, signal)
  assert.deepEqual(await sockets.list(signal), [])
})

test('connections beyond the limit of one replica are closed, those of another are not', async (t) => {
  const folder = await folderOf(t)
  const sockets = await open(t, folder, { limits: { connectionsMax: 3 } })
  const [a, b] = [ids.next(), ids.next()]
  for (const it of [a, b]) await sockets.ensure(it, signal)
  const held: Socket[] = []
  t.after(() => held.forEach((it) => it.destroy()))
  for (let at = 0; at < 3; at++) {
    const socket = await connected(pathOf(folder, a))
    await once(socket, 'data')
    held.push(socket)
  }
  const more = await connected(pathOf(folder, a))
  more.resume()
  await once(more, 'close')
  assert.equal(await said(pathOf(folder, b)), b)
  const [first] = held
  first?.destroy()
  // Only once the other end saw it go is there room again.
  for (let at = 0; ; at++) {
    const answer = await said(pathOf(folder, a)).catch(() => undefined)
    if (answer === a) break
    assert.ok(at < 100, 'there is never room again')
  }
})

test('one that connects without end is not listened to for a while, and the others are', async (t) => {
  const folder = await folderOf(t)
  const clock = simulatedClock()
  const sockets = await open(t, folder, { clock, limits: { connectsPerSecondMax: 5, restMs: 1000 } })
  const [a, b] = [ids.next(), ids.next()]
  for (const it of [a, b]) await sockets.ensure(it, signal)
  for (let at = 0; at < 6; at++) await said(pathOf(folder, a))
  await assert.rejects(connected(pathOf(folder, a)), { code: 'ECONNREFUSED' })
  assert.equal(await said(pathOf(folder, b)), b)
  // It is wanted, and looked at, meanwhile.
  await sockets.ensure(a, signal)
  await clock.advance(1000)
  await sockets.ensure(a, signal)
  assert.equal(await said(pathOf(folder, a)), a)
})

test('a folder that the host agent does not make is no socket', async (t) => {
  const folder = await folderOf(t)
  const make = (): Promise<void> => Promise.reject(new CloudError('unsupported', 'no such verb'))
  const sockets = await open(t, folder, { make })
  await assert.rejects(sockets.ensure(ids.next(), signal), { code: 'unsupported' })
  await assert.rejects(sockets.ensure('../../etc', signal), { code: 'invalid' })
  assert.deepEqual(await sockets.list(signal), [])
})
