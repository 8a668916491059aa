import { createServer } from 'node:http'
import { type AddressInfo, createServer as createTcp } from 'node:net'
import { WebSocketServer } from 'ws'

// What is behind the edge in its benches: a WebSocket and a TCP connection that send back what they get.

const http = createServer()
new WebSocketServer({ server: http, perMessageDeflate: false }).on('connection', (socket) => {
  socket.on('message', (data: Buffer) => socket.send(data, { binary: true }))
})
const tcp = createTcp((socket) => {
  socket.on('error', () => {})
  socket.pipe(socket)
})
http.listen(0, '127.0.0.1', () =>
  tcp.listen(0, '127.0.0.1', () => {
    const portOf = (it: typeof tcp): number => (it.address() as AddressInfo).port
    process.stdout.write(`${JSON.stringify({ http: portOf(http), tcp: portOf(tcp) })}\n`)
  }),
)
