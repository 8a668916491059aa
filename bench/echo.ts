import { once } from 'node:events'
import { connect } from 'node:net'
import { WebSocket } from 'ws'

const MESSAGE_BYTES = 65_536
const UNDER_WAY_MAX = 16
const MEGABYTE = 1e6

/** Megabytes a second that came back through a WebSocket, with a bounded number of messages under way. */
export async function echoWebSocket(
  url: string,
  options: { readonly host?: string; readonly servername?: string; readonly ca?: string },
  forMs: number,
): Promise<number> {
  const { host, servername, ca } = options
  const socket = new WebSocket(url, {
    ...({ servername } as object),
    ...(ca === undefined ? {} : { ca }),
    ...(host === undefined ? {} : { headers: { host } }),
    perMessageDeflate: false,
  })
  await once(socket, 'open')
  const message = Buffer.alloc(MESSAGE_BYTES, 1)
  const since = performance.now()
  let bytes = 0
  // A tunnel keeps bytes and not messages: what came back is counted in the size of what was sent.
  let back = 0
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.on('message', (data: Buffer) => {
      bytes += data.length
      if (performance.now() - since >= forMs) return resolve()
      for (back += data.length; back >= MESSAGE_BYTES; back -= MESSAGE_BYTES) socket.send(message)
    })
    for (let it = 0; it < UNDER_WAY_MAX; it++) socket.send(message)
  })
  const seconds = (performance.now() - since) / 1000
  socket.terminate()
  return bytes / MEGABYTE / seconds
}

/** The same over a TCP connection. */
export async function echoTcp(port: number, forMs: number): Promise<number> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  await once(socket, 'connect')
  const message = Buffer.alloc(MESSAGE_BYTES, 1)
  const since = performance.now()
  let bytes = 0
  let back = 0
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.on('data', (data: Buffer) => {
      bytes += data.length
      if (performance.now() - since >= forMs) return resolve()
      for (back += data.length; back >= MESSAGE_BYTES; back -= MESSAGE_BYTES) socket.write(message)
    })
    for (let it = 0; it < UNDER_WAY_MAX; it++) socket.write(message)
  })
  const seconds = (performance.now() - since) / 1000
  socket.destroy()
  return bytes / MEGABYTE / seconds
}
