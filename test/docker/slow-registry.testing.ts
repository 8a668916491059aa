import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'

const PIECES = 8
const PIECE_MS = 250
const LAYER_BYTES = 4 << 20

const digestOf = (bytes: Buffer | string): string =>
  `sha256:${createHash('sha256').update(bytes).digest('hex')}`

/** An archive of one file, as tar(5) has it. */
function archiveOf(name: string, content: Buffer): Buffer {
  const head = Buffer.alloc(512)
  const fields = [
    [name, 0],
    ['0000644\0', 100],
    ['0000000\0', 108],
    ['0000000\0', 116],
    [`${content.length.toString(8).padStart(11, '0')}\0`, 124],
    ['00000000000\0', 136],
    ['        0', 148],
    ['ustar\x0000', 257],
  ] as const
  for (const [text, at] of fields) head.write(text, at, 'latin1')
  const sum = head.reduce((all, byte) => all + byte, 0)
  head.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return Buffer.concat([head, content, Buffer.alloc(1024 + ((512 - (content.length % 512)) % 512))])
}

/** A registry with one image of one layer, which takes two seconds to come. */
export async function startSlowRegistry() {
  const archive = archiveOf('noise', randomBytes(LAYER_BYTES))
  const layer = gzipSync(archive, { level: 1 })
  const config = JSON.stringify({
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    config: { Cmd: ['/noise'] },
    rootfs: { type: 'layers', diff_ids: [digestOf(archive)] },
  })
  const type = 'application/vnd.docker.distribution.manifest.v2+json'
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: type,
    config: {
      mediaType: 'application/vnd.docker.container.image.v1+json',
      size: config.length,
      digest: digestOf(config),
    },
    layers: [
      {
        mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
        size: layer.length,
        digest: digestOf(layer),
      },
    ],
  })
  const server = createServer((request, response) => {
    const { url = '', method } = request
    const answer = (kind: string, body: string): void => {
      const headers = { 'content-type': kind, 'docker-content-digest': digestOf(body) }
      response.writeHead(200, { ...headers, 'content-length': body.length })
      response.end(method === 'HEAD' ? undefined : body)
    }
    const send = async (): Promise<void> => {
      response.writeHead(200, { 'content-length': layer.length })
      for (let piece = 0; piece < PIECES; piece++) {
        const [from, to] = [piece, piece + 1].map((it) => Math.round((it * layer.length) / PIECES))
        response.write(layer.subarray(from, to))
        await sleep(PIECE_MS)
      }
      response.end()
    }
    if (url === '/v2/') answer('application/json', '{}')
    else if (url.includes('/manifests/')) answer(type, manifest)
    else if (url.endsWith(digestOf(config))) answer('application/octet-stream', config)
    else if (url.endsWith(digestOf(layer))) void send()
    else response.writeHead(404).end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    image: `127.0.0.1:${(server.address() as AddressInfo).port}/slow:latest`,
    layerBytes: layer.length,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
