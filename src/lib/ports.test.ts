import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createSocket } from 'node:dgram'
import { createServer, type AddressInfo } from 'node:net'
import { test } from 'node:test'
import { listeningPorts, parseSockets } from './listening.ts'
import { inRange, parsePortRange, portKey } from './ports.ts'

test('a range has two ports, the first no greater', () => {
  assert.deepEqual(parsePortRange('30000-32767'), { from: 30_000, to: 32_767 })
  assert.deepEqual(parsePortRange('80-80'), { from: 80, to: 80 })
  for (const wrong of ['', '80', '0-80', '90-80', '1-65536', '1 - 2', '-1-2', '1-2-3', '1e2-200'])
    assert.equal(parsePortRange(wrong), undefined, wrong)
  const range = { from: 10, to: 12 }
  assert.deepEqual(
    [9, 10, 12, 13].map((it) => inRange(range, it)),
    [false, true, true, false],
  )
})

const HEADER =
  '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode'

test('who listens is read from the tables of the kernel, connections are not', () => {
  const tcp = [
    HEADER,
    '   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100',
    '   1: 0100007F:7531 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100',
    '   2: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 3',
    '',
  ].join('\n')
  assert.deepEqual(parseSockets(tcp, 'tcp').map(portKey), ['tcp/8080', 'tcp/22'])
  const udp = [
    HEADER,
    '  10: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4 2 0 0',
    '  11: 0100007F:9C41 0100007F:0035 01 00000000:00000000 00:00000000 00000000     0        0 5 2 0 0',
  ].join('\n')
  assert.deepEqual(parseSockets(udp, 'udp').map(portKey), ['udp/53'])
  assert.deepEqual(parseSockets('', 'tcp'), [])
})

test('what this process listens on is found, and gone when it ends', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  const socket = createSocket('udp6').bind(0, '::1')
  await Promise.all([once(server, 'listening'), once(socket, 'listening')])
  const ports = [
    { protocol: 'tcp' as const, port: (server.address() as AddressInfo).port },
    { protocol: 'udp' as const, port: socket.address().port },
  ].map(portKey)
  const found = async (): Promise<string[]> => {
    const all = new Set((await listeningPorts()).map(portKey))
    return ports.filter((it) => all.has(it))
  }
  assert.deepEqual(await found(), ports)
  server.close()
  socket.close()
  await Promise.all([once(server, 'close'), once(socket, 'close')])
  assert.deepEqual(await found(), [])
})
