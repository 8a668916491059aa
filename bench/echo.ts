import { once } from 'node:events'
import { connect } from 'node:net'
import { WebSocket } from 'ws'

const MESSAGE_BYTES = 65_536
const UNDER_WAY_MAX = 16
const MEGABYTE = 1e6

/** What a measurement needs of a connection, whatever it speaks. */
interface Echo {
  readonly send: (message: Buffer) => void
  readonly onData: (heard: (data: Buffer) => void) => void
  readonly onError: (failed: (error: Error) => void) => void
}

/** Megabytes a second that came back, with a bounded number of messages under way. */
async function measure({ send, onData, onError }: Echo, forMs: number): Promise<number> {
  const message = Buffer.alloc(MESSAGE_BYTES, 1)
  const since = performance.now()
  let bytes = 0
  // A tunnel keeps bytes and not messages: what came back is counted in the size of what was sent.
  let back = 0
  await new Promise<void>((resolve, reject) => {
    onError(reject)
    onData((data) => {
      bytes += data.length
      if (performance.now() - since >= forMs) return resolve()
      for (back += data.length; back >= MESSAGE_BYTES; back -= MESSAGE_BYTES) send(message)
    })
    for (let it = 0; it < UNDER_WAY_MAX; it++) send(message)
  })
  return bytes / MEGABYTE / ((performance.now() - since) / 1000)
}

/** Megabytes a second that came back through a WebSocket. */
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
  const rate = await measure(
    {
      send: (message) => socket.send(message),
      onData: (heard) => socket.on('message', heard),
      onError: (failed) => socket.once('error', failed),
    },
    forMs,
  )
  socket.terminate()
  return rate
}

/** The same over a TCP connection. */
export async function echoTcp(port: number, forMs: number): Promise<number> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  await once(socket, 'connect')
  const rate = await measure(
    {
      send: (message) => socket.write(message),
      onData: (heard) => socket.on('data', heard),
      onError: (failed) => socket.once('error', failed),
    },
    forMs,
  )
  socket.destroy()
  return rate
}
