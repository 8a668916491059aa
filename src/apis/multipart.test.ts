import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { test } from 'node:test'
import fc from 'fast-check'
import { isCloudError } from '#lib/errors.ts'
import { fileOfForm, type FormFile } from './multipart.ts'

const BOUNDARY = 'a-boundary'
const HEAD = 'content-disposition: form-data; name="file"; filename="../disk.raw"\r\n\r\n'

/** A server that keeps the files of forms in memory, or as `keep` does. */
async function served(keep: (file: FormFile) => Promise<unknown> = async (it) => await buffer(it.content)) {
  const seen: unknown[] = []
  let socket: Socket | undefined
  const server = createServer((request, response) => {
    ;({ socket } = request)
    fileOfForm(request, 'file', async (file) => ({ name: file.name, kept: await keep(file) })).then(
      (it) => {
        seen.push(it)
        response.end('kept')
      },
      (error: Error) => {
        seen.push(error)
        response.writeHead(isCloudError(error, 'invalid') ? 400 : 500).end(error.message)
      },
    )
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    port,
    seen,
    /** Of the last connection. */
    bytesRead: () => socket?.bytesRead ?? 0,
    post: async (body: string | Uint8Array, type = `multipart/form-data; boundary=${BOUNDARY}`) => {
      const answer = await fetch(`http://127.0.0.1:${port}/`, {
        method: 'POST',
        headers: { 'content-type': type },
        body: body as string,
      })
      return [answer.status, await answer.text()] as const
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

const formOf = (content: Uint8Array): Buffer =>
  Buffer.concat([
    Buffer.from(`--${BOUNDARY}\r\ncontent-disposition: form-data; name="more"\r\n\r\nvalue\r\n`),
    Buffer.from(`--${BOUNDARY}\r\n${HEAD}`),
    content,
    Buffer.from(`\r\n--${BOUNDARY}--\r\n`),
  ])

test('a file comes as it was sent, by the last part of its name', async () => {
  await using it = await served()
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 5000 }), async (content) => {
      assert.deepEqual(await it.post(formOf(content)), [200, 'kept'])
      assert.deepEqual(it.seen.pop(), { name: 'disk.raw', kept: Buffer.from(content) })
    }),
    { numRuns: 30 },
  )
})

test('what is no form, has no file or ends early is refused', async () => {
  await using it = await served()
  const form = formOf(Buffer.from('content')).toString()
  const wrong: readonly (readonly [string, string | undefined, RegExp])[] = [
    ['{}', 'application/json', /must be a form/],
    [form, 'multipart/form-data', /must be a form/],
    ['', undefined, /not a valid form|is required/],
    [form.replaceAll('name="file"', 'name="other"'), undefined, /is required/],
    [form.replace('; filename="../disk.raw"', ''), undefined, /is required/],
    [form.slice(0, -20), undefined, /not a valid form/],
    ['nothing of a form', undefined, /not a valid form|is required/],
  ]
  for (const [body, type, says] of wrong) {
    const [status, message] = await it.post(body, type)
    assert.equal(status, 400, message)
    assert.match(message, says)
  }
})

test('a connection that breaks ends the file with an error, never as if it were whole', async () => {
  const { promise, resolve } = Promise.withResolvers<string>()
  await using it = await served(async ({ content }) => {
    await buffer(content).then(
      () => resolve('whole'),
      () => resolve('broken'),
    )
  })
  const socket = connect(it.port, '127.0.0.1')
  socket.write(
    `POST / HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=${BOUNDARY}\r\ncontent-length: 9999\r\n\r\n--${BOUNDARY}\r\n${HEAD}some`,
    () => setTimeout(() => socket.destroy(), 50),
  )
  assert.equal(await promise, 'broken')
})

test('no more is read than is kept, and a refusal reaches who still sends', async () => {
  const { promise: gate, resolve: open } = Promise.withResolvers<void>()
  await using it = await served(async ({ content }) => {
    for await (const _ of content) {
      await gate
      throw new Error('refused')
    }
  })
  const answer = it.post(formOf(Buffer.alloc(64 << 20)))
  // Until nothing more comes.
  for (let before = 0; it.bytesRead() === 0 || it.bytesRead() > before;) {
    before = it.bytesRead()
    await new Promise((wake) => setTimeout(wake, 200))
  }
  assert.ok(it.bytesRead() < 1 << 20, `${it.bytesRead()} bytes were read`)
  open()
  assert.deepEqual(await answer, [500, 'refused'])
})
