import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { dockerApi } from './docker.ts'

const FOLLOWERS = 80

test('streams that last take no connection from calls', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-docker-'))
  const streams: ServerResponse[] = []
  const server = createServer((request, response) => {
    if (!request.url?.includes('/logs')) return void response.end('{"ServerVersion":"1"}')
    streams.push(response)
    response.writeHead(200).flushHeaders()
  })
  const socket = join(folder, 'docker.sock')
  await once(server.listen(socket), 'listening')
  const api = dockerApi(socket)
  const stop = new AbortController()
  t.after(async () => {
    stop.abort()
    api.close()
    server.closeAllConnections()
    server.close()
    await rm(folder, { recursive: true })
  })
  const followed = Array.from({ length: FOLLOWERS }, () => api.logs('it', { follow: true }, stop.signal))
  for (const stream of await Promise.all(followed)) stream?.on('error', () => {})
  assert.equal(streams.length, FOLLOWERS)
  assert.equal((await api.info()).ServerVersion, '1')
})
