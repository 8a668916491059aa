import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { connect } from 'node:tls'
import fc from 'fast-check'
import { readHello } from './hello.ts'

/** What Node's own TLS says first. */
async function helloFor(servername: string): Promise<Buffer> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const client = connect({ port, host: '127.0.0.1', servername, ALPNProtocols: ['h2'] })
  client.on('error', () => {})
  const [socket] = (await once(server, 'connection')) as [import('node:net').Socket]
  const [chunk] = (await once(socket, 'data')) as [Buffer]
  client.destroy()
  socket.destroy()
  server.close()
  return chunk
}

/** The same handshake in records of so many bytes. */
function split(hello: Buffer, size: number): Buffer {
  const body = hello.subarray(5)
  const records: Buffer[] = []
  for (let at = 0; at < body.length; at += size) {
    const part = body.subarray(at, at + size)
    records.push(hello.subarray(0, 3), Buffer.from([part.length >> 8, part.length & 255]), part)
  }
  return Buffer.concat(records)
}

const hello = await helloFor('App.Example.com')

test('the name is read, whole and in however many records', () => {
  assert.deepEqual(readHello(hello), { name: 'app.example.com' })
  for (const size of [1, 3, 7, 100]) {
    const records = split(hello, size)
    assert.deepEqual(readHello(records), { name: 'app.example.com' })
    for (let at = 1; at < records.length; at += 13) assert.equal(readHello(records.subarray(0, at)), 'more')
  }
})

test('a hello without a name, or with an address for one, has none', async () => {
  assert.deepEqual(readHello(await helloFor('')), { name: undefined })
})

test('what is no hello is bad, and nothing makes it throw', () => {
  for (const text of [
    'GET / HTTP/1.1\r\n',
    '\x16\x02\x01\x00\x05',
    '\x16\x03\x01\x00\x00',
    '\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00',
  ])
    assert.equal(readHello(Buffer.from(text, 'latin1')), 'bad', JSON.stringify(text))
  assert.equal(readHello(Buffer.concat([Buffer.from('160301000401ffffff', 'hex')])), 'bad', 'too long')
  fc.assert(
    fc.property(
      fc.integer({ min: 5, max: hello.length - 1 }),
      fc.integer({ min: 0, max: 255 }),
      (at, byte) => {
        const broken = Buffer.from(hello)
        broken[at] = byte
        const read = readHello(broken)
        assert.ok(read === 'more' || read === 'bad' || typeof read === 'object')
      },
    ),
  )
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void readHello(Buffer.from(bytes))))
})
