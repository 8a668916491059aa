// Runs in another network namespace (`nsenter --net`), does the one action given as JSON and prints what it saw as JSON.
import { createSocket, type SocketType } from 'node:dgram'
import { createServer, get } from 'node:http'
import { connect } from 'node:net'
import { decode, encode } from 'dns-packet'

export type Action =
  /** One new connection for each of `times` requests, one after the other. */
  | { do: 'http'; url: string; times?: number; timeoutMs?: number; headers?: Record<string, string> }
  /** The outcome of opening a connection to each host at once, from `source` when given. */
  | { do: 'tcp'; hosts: readonly string[]; port: number; source?: string; timeoutMs?: number }
  /** Sends a datagram and waits for an answer to it. */
  | { do: 'udp'; host: string; port: number; source?: string; text: string; timeoutMs?: number }
  /** Prints `{"ready":true}`, then a line for each datagram, until ended: `{"text":…,"from":…}`. */
  | { do: 'udp-listen'; host: string; port: number }
  /** Prints `{"ready":true}`, then answers every request with the caller's address, until ended. */
  | { do: 'http-listen'; host: string; port: number }
  /** Prints `{"ready":true}`, then answers each question for an IPv4 address with `address`, others with nothing. */
  | { do: 'dns-listen'; host: string; port: number; address: string }

export type HttpSeen = { status: number; body: string } | { error: string }
/** `connected`, `timeout`, or the code of the refusal. */
export type TcpSeen = string

const TIMEOUT_MS = 3000
const BODY_BYTES_MAX = 1_000_000
const print = (value: unknown): boolean => process.stdout.write(`${JSON.stringify(value)}\n`)

function request(action: Extract<Action, { do: 'http' }>): Promise<HttpSeen> {
  return new Promise((resolve) => {
    const signal = AbortSignal.timeout(action.timeoutMs ?? TIMEOUT_MS)
    const asked = get(action.url, { agent: false, signal, headers: action.headers ?? {} }, (answer) => {
      let body = ''
      answer.setEncoding('utf8').on('data', (text: string) => {
        body += text
        if (body.length > BODY_BYTES_MAX) asked.destroy(new Error('body too long'))
      })
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body }))
    })
    asked.on('error', (error: NodeJS.ErrnoException) =>
      resolve({ error: signal.aborted ? 'timeout' : (error.code ?? error.message) }),
    )
  })
}

function open(action: Extract<Action, { do: 'tcp' }>, host: string): Promise<TcpSeen> {
  return new Promise((resolve) => {
    const socket = connect({
      host,
      port: action.port,
      ...(action.source ? { localAddress: action.source } : {}),
    })
    const done = (seen: TcpSeen): void => {
      clearTimeout(late)
      socket.destroy()
      resolve(seen)
    }
    const late = setTimeout(() => done('timeout'), action.timeoutMs ?? TIMEOUT_MS)
    socket.once('connect', () => done('connected'))
    socket.once('error', (error: NodeJS.ErrnoException) => done(error.code ?? error.message))
  })
}

const family = (host: string): SocketType => (host.includes(':') ? 'udp6' : 'udp4')

function ask(action: Extract<Action, { do: 'udp' }>): Promise<{ answer: string } | { error: string }> {
  return new Promise((resolve) => {
    const socket = createSocket(family(action.host))
    const done = (seen: { answer: string } | { error: string }): void => {
      clearTimeout(timer)
      socket.close()
      resolve(seen)
    }
    const timer = setTimeout(() => done({ error: 'timeout' }), action.timeoutMs ?? TIMEOUT_MS)
    socket.on('message', (text) => done({ answer: text.toString() }))
    socket.on('error', (error: NodeJS.ErrnoException) => done({ error: error.code ?? error.message }))
    const send = (): void => socket.send(action.text, action.port, action.host)
    if (action.source) socket.bind({ address: action.source }, send)
    else send()
  })
}

async function act(action: Action): Promise<void> {
  switch (action.do) {
    case 'http': {
      const seen: HttpSeen[] = []
      for (let i = 0; i < (action.times ?? 1); i++) seen.push(await request(action))
      print(seen)
      return
    }
    case 'tcp':
      print(await Promise.all(action.hosts.map((host) => open(action, host))))
      return
    case 'udp':
      print(await ask(action))
      return
    case 'udp-listen': {
      const socket = createSocket({ type: family(action.host), reuseAddr: true })
      socket.on('message', (text, from) => {
        print({ text: text.toString(), from: from.address })
        socket.send(`heard ${text.toString()}`, from.port, from.address)
      })
      socket.bind(action.port, action.host, () => print({ ready: true }))
      return
    }
    case 'dns-listen': {
      const socket = createSocket('udp4')
      socket.on('message', (text, from) => {
        const { id = 0, questions = [] } = decode(text)
        const [asked] = questions
        print({ text: asked?.name ?? '', from: from.address })
        const answers =
          asked?.type === 'A' ? [{ type: 'A' as const, name: asked.name, ttl: 1, data: action.address }] : []
        const answer = encode({ type: 'response', id, flags: 1 << 7, questions, answers })
        socket.send(answer, from.port, from.address)
      })
      socket.bind(action.port, action.host, () => print({ ready: true }))
      return
    }
    case 'http-listen':
      createServer((asked, answer) => {
        answer.end((asked.socket.remoteAddress ?? '').replace(/^::ffff:/, ''))
      }).listen(action.port, action.host, () => print({ ready: true }))
  }
}

await act(JSON.parse(process.argv[2] ?? '{}') as Action)
