import type { Socket } from 'node:net'
import { createServer, type SecureContext, type TLSSocket } from 'node:tls'
import { HELLO_BYTES_MAX, readHello, UNRECOGNIZED_NAME } from './hello.ts'
import type { FrontLimits } from './limits.ts'
import type { FrontTable } from './table.ts'

/** How long a refusal may take to go out. */
const REFUSAL_MS_MAX = 2000

export type OnSecure = (socket: TLSSocket, protocol: 'h2' | 'http/1.1') => void
export type OnPassthrough = (socket: Socket, hostname: string) => void

/**
 * Takes connections of the TLS listener: reads the name they ask for, hands those on whose route takes TLS itself, and
 * makes TLS with the name's own certificate for the others. A name without one is refused, never answered with another's.
 */
export function createTls(options: {
  readonly table: () => FrontTable
  readonly limits: FrontLimits
  readonly onSecure: OnSecure
  readonly onPassthrough: OnPassthrough
}): (socket: Socket) => void {
  const { table, limits, onSecure, onPassthrough } = options
  const server = createServer({
    ALPNProtocols: ['h2', 'http/1.1'],
    handshakeTimeout: limits.handshakeMsMax,
    minVersion: 'TLSv1.2',
    SNICallback: (name, done: (error: Error | null, context?: SecureContext) => void) => {
      const context = table().secure(name.toLowerCase())
      if (context) done(null, context)
      else done(new Error('there is no certificate for this name'))
    },
  })
  server.on('tlsClientError', (_, socket) => socket.destroy())
  server.on('secureConnection', (socket) => {
    socket.on('error', () => {})
    if (!socket.servername) return void socket.destroy()
    onSecure(socket, socket.alpnProtocol === 'h2' ? 'h2' : 'http/1.1')
  })

  const refuse = (socket: Socket): void => {
    socket.setTimeout(REFUSAL_MS_MAX, () => socket.destroy())
    socket.end(UNRECOGNIZED_NAME, () => socket.destroy())
  }
  const decide = (socket: Socket, name: string | undefined): void => {
    if (name === undefined) return refuse(socket)
    if (table().passthrough(name)) return onPassthrough(socket, name)
    if (!table().secure(name)) return refuse(socket)
    // TLS ends as a whole; a client that leaves in its handshake is not waited for.
    socket.allowHalfOpen = false
    server.emit('connection', socket)
  }

  return (socket) => {
    let bytes: Buffer = Buffer.alloc(0)
    const leave = (): void => void socket.destroy()
    const tooLate = setTimeout(leave, limits.handshakeMsMax)
    socket.once('close', () => clearTimeout(tooLate))
    socket.once('end', leave)
    const onReadable = (): void => {
      for (let chunk: unknown; (chunk = socket.read()) !== null;)
        bytes = bytes.length ? Buffer.concat([bytes, chunk as Buffer]) : (chunk as Buffer)
      const hello = bytes.length ? readHello(bytes) : 'more'
      if (hello === 'more' && bytes.length <= HELLO_BYTES_MAX) return
      socket.off('readable', onReadable).off('end', leave)
      clearTimeout(tooLate)
      if (typeof hello === 'string') return void socket.destroy()
      socket.unshift(bytes)
      decide(socket, hello.name)
    }
    socket.on('readable', onReadable)
  }
}
