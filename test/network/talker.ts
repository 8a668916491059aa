// Runs in a machine of a test: listens, asks and holds connections as it is told on standard input, a line of JSON each.
import { createSocket, type Socket as Datagrams } from 'node:dgram'
import { Resolver } from 'node:dns/promises'
import { connect, createServer, isIPv6, type Server, type Socket } from 'node:net'
import { createInterface } from 'node:readline'

const name = process.argv[2] ?? '?'
const held = new Map<string, Socket | Datagrams>()
const servers = new Set<Server | Datagrams>()
// Who sent a datagram since the last time somebody asked.
let heard: string[] = []
const clients = new Set<Socket>()

type Order = {
  id: number
  do: 'listen' | 'heard' | 'resolve' | 'push' | 'ask' | 'open' | 'say' | 'end'
  protocol: 'tcp' | 'udp'
  address: string
  port: number
  from?: string
  fromPort?: number
  key: string
  /** Of what to resolve, unless its IPv4 addresses. */
  type?: 'MX' | 'SRV' | 'TXT'
  ms: number
}
type Answer = { text?: string; error?: string }

const familyOf = (address: string): 'udp4' | 'udp6' => (isIPv6(address) ? 'udp6' : 'udp4')
const plain = (address = ''): string => address.replace(/^::ffff:/, '')

function listen({ protocol, address, port }: Order): Promise<Answer> {
  return new Promise((resolve) => {
    if (protocol === 'tcp') {
      const server = createServer((socket) => {
        socket.on('error', () => {})
        clients.add(socket)
        socket.write(`${name} ${plain(socket.remoteAddress)}\n`)
        socket.on('data', (data) => socket.write(data))
      })
      server.on('error', (error) => resolve({ error: error.message }))
      server.listen(port, address, () => resolve({ text: 'ok' }))
      servers.add(server)
    } else {
      const socket = createSocket(familyOf(address))
      socket.on('error', (error) => resolve({ error: error.message }))
      socket.on('message', (_, from) => {
        heard.push(plain(from.address))
        socket.send(`${name} ${plain(from.address)}\n`, from.port, from.address)
      })
      socket.bind(port, address, () => resolve({ text: 'ok' }))
      servers.add(socket)
    }
  })
}

function open({ protocol, address, port, from, fromPort, key, ms }: Order): Promise<Answer> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve({ error: 'timeout' }), ms)
    const done = (answer: Answer): void => {
      clearTimeout(timer)
      resolve(answer)
    }
    if (protocol === 'tcp') {
      const socket = connect({
        host: address,
        port,
        ...(from && { localAddress: from }),
        ...(fromPort && { localPort: fromPort }),
      })
      held.set(key, socket)
      socket.on('error', (error: NodeJS.ErrnoException) => done({ error: error.code ?? error.message }))
      socket.once('data', (data) => done({ text: String(data).trim() }))
    } else {
      const socket = createSocket(familyOf(address))
      held.set(key, socket)
      socket.on('error', (error: NodeJS.ErrnoException) => done({ error: error.code ?? error.message }))
      socket.once('message', (data) => done({ text: String(data).trim() }))
      // Connected, so that an ICMP refusal is heard.
      const send = (error?: NodeJS.ErrnoException): void => {
        if (error) done({ error: error.code ?? error.message })
        else socket.send('?\n')
      }
      socket.bind(fromPort ?? 0, from, () => socket.connect(port, address, send))
    }
  })
}

function say({ key, ms }: Order): Promise<Answer> {
  return new Promise((resolve) => {
    const it = held.get(key)
    const timer = setTimeout(() => resolve({ error: 'timeout' }), ms)
    const done = (answer: Answer): void => {
      clearTimeout(timer)
      it?.removeAllListeners('error')
      it?.on('error', () => {})
      resolve(answer)
    }
    it?.once('error', (error: NodeJS.ErrnoException) => done({ error: error.code ?? error.message }))
    if (it && 'write' in it) {
      it.once('data', (data) => done({ text: String(data).trim() }))
      it.once('close', () => done({ error: 'closed' }))
      it.write('still there\n')
    } else if (it) {
      it.once('message', (data) => done({ text: String(data).trim() }))
      it.send('?\n')
    }
  })
}

async function resolve({ address, key, type, ms }: Order): Promise<Answer> {
  const resolver = new Resolver({ timeout: ms, tries: 1 })
  resolver.setServers([address])
  try {
    if (type) return { text: JSON.stringify(await resolver.resolve(key, type)) }
    return { text: (await resolver.resolve4(key)).join(' ') }
  } catch (error) {
    return { error: (error as NodeJS.ErrnoException).code ?? String(error) }
  }
}

async function obey(order: Order): Promise<Answer> {
  if (order.do === 'listen') return listen(order)
  if (order.do === 'open') return open(order)
  if (order.do === 'say') return say(order)
  if (order.do === 'resolve') return await resolve(order)
  if (order.do === 'push') {
    for (const it of clients) it.write('pushed\n')
    return { text: 'ok' }
  }
  if (order.do === 'heard') {
    const text = heard.join(' ')
    heard = []
    return { text }
  }
  const answer = await open({ ...order, key: `ask ${order.id}` })
  const it = held.get(`ask ${order.id}`)
  if (it && 'destroy' in it) it.destroy()
  else it?.close()
  held.delete(`ask ${order.id}`)
  return answer
}

createInterface({ input: process.stdin }).on('line', (line) => {
  const order = JSON.parse(line) as Order
  void obey(order).then((answer) => process.stdout.write(`${JSON.stringify({ id: order.id, ...answer })}\n`))
})
process.stdin.on('end', () => process.exit(0))
