import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { eventually } from '../e2e/wait.testing.ts'
import { cloudProcess } from './process.testing.ts'
import { simulatedWorld } from './world.testing.ts'

const WAIT_MS_MAX = 20_000
const HALF_BYTES = 1 << 20
const FORM = `--b\r\ncontent-disposition: form-data; name="file"; filename="disk.raw"\r\n\r\n`
const TYPE = 'multipart/form-data; boundary=b'

type Image = { id: string; status: { state: string; progress?: { doneBytes: number }; sizeBytes?: number } }

/** A cloud that may ask this machine, and an address whose answer stops halfway until told. */
async function scene() {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-crash-images-'))
  const world = await simulatedWorld(join(folder, 'world'))
  const cloud = await cloudProcess({
    data: join(folder, 'data'),
    world,
    more: ['--allow-network', '127.0.0.0/8'],
  })
  await cloud.start()
  let asked = 0
  let isWhole = false
  const origin = createServer((_, response) => {
    asked++
    response.writeHead(200, { 'content-length': 2 * HALF_BYTES }).write(Buffer.alloc(HALF_BYTES, 'a'))
    if (isWhole) response.end(Buffer.alloc(HALF_BYTES, 'b'))
  }).listen(0, '127.0.0.1')
  await once(origin, 'listening')
  const { body } = await cloud.ask('POST', '/native/tenant', { name: 'acme', spec: { description: null } })
  const tenant = (body as { id: string }).id
  const images = async (): Promise<Image[]> =>
    ((await cloud.ask('GET', '/native/image', undefined, { tenant })).body as { items: Image[] }).items
  return {
    cloud,
    tenant,
    url: `http://127.0.0.1:${(origin.address() as AddressInfo).port}/disk.raw`,
    asked: () => asked,
    whole: () => void (isWhole = true),
    files: async () => await readdir(join(folder, 'data', 'images')),
    register: async (more: object = {}) => {
      const spec = { os: 'linux', version: '1', ...more }
      const made = await cloud.ask('POST', '/native/image', { name: 'disk', spec }, { tenant })
      assert.equal(made.status, 201, JSON.stringify(made.body))
      return (made.body as Image).id
    },
    seen: async (id: string, what: string, is: (it: Image) => boolean) =>
      await eventually(
        what,
        async () => {
          const it = (await images()).find((one) => one.id === id)
          if (!it || !is(it)) throw new Error(JSON.stringify(it))
          return it
        },
        WAIT_MS_MAX,
      ),
    async restart() {
      await cloud.kill()
      await cloud.start()
    },
    async [Symbol.asyncDispose]() {
      await cloud[Symbol.asyncDispose]()
      await world[Symbol.asyncDispose]()
      origin.closeAllConnections()
      origin.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

test('what a kill cuts off leaves nothing or is fetched anew, and what was answered is there', async () => {
  await using it = await scene()
  const [id, fetched, other] = [
    await it.register(),
    await it.register({ url: it.url }),
    await it.register({ url: it.url }),
  ]
  const path = `/thecloud/images/${id}/upload`
  const socket = connect(Number(new URL(it.cloud.url).port), '127.0.0.1').on('error', () => {})
  socket.write(
    `POST ${path} HTTP/1.1\r\nhost: x\r\nx-api-key: ${it.cloud.token}\r\nx-tenant-id: ${it.tenant}\r\ncontent-type: ${TYPE}\r\ncontent-length: 9999999\r\n\r\n${FORM}`,
  )
  socket.write(Buffer.alloc(HALF_BYTES, 'a'))
  for (const one of [id, fetched, other])
    await it.seen(one, 'half of it came', ({ status }) => status.progress?.doneBytes === HALF_BYTES)
  await it.cloud.ask('DELETE', `/native/image/${other}`, undefined, { tenant: it.tenant })
  await eventually('its part is gone', async () => (await it.files()).length === 2, WAIT_MS_MAX)
  assert.deepEqual((await it.files()).toSorted(), [`${id}.part`, `${fetched}.part`].toSorted())
  it.whole()
  await it.restart()
  const { status: had } = await it.seen(fetched, 'it is fetched', ({ status }) => status.state === 'active')
  assert.deepEqual([had.sizeBytes, it.asked()], [2 * HALF_BYTES, 3])
  await it.seen(id, 'it waits for its content', ({ status }) => status.state === 'pending')
  assert.equal((await it.files()).length, 1)
  const { status } = await fetch(it.cloud.url + path, {
    method: 'POST',
    headers: { 'x-api-key': it.cloud.token, 'x-tenant-id': it.tenant, 'content-type': TYPE },
    body: `${FORM}content\r\n--b--\r\n`,
  })
  assert.equal(status, 200)
  await it.restart()
  await it.seen(id, 'it is there', ({ status: now }) => now.state === 'active' && now.sizeBytes === 7)
  const leaks = await it.cloud.ask('GET', '/native/leaks')
  assert.deepEqual(
    (leaks.body as { items: { thing: string }[] }).items.filter((one) => one.thing === 'image'),
    [],
  )
})
