import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import type { Bench, Context } from './context.ts'
import { echoTcp, echoWebSocket } from './echo.ts'
import { atLeast, type Figure } from './figure.ts'
import { type Nginx, pin, startNginx, wrk } from './nginx.ts'
import { type Program, startProgram } from './process.ts'
import { inTurn, median } from './rounds.ts'

const PROXY_PROCESSOR = 0
const OTHERS_PROCESSOR = 1
const CONNECTIONS = 32
const IDLE_CONNECTIONS = 2000
const SETTLE_MS = 500
/** Less is not told from nothing. */
const SMALLEST_MB = 0.1
const AIM = atLeast('ratio', 0.55)
const PAGE = 'x'.repeat(1024)
const HEAP = ['--min-semi-space-size=16', '--max-semi-space-size=32']

type Front = Program<{ readonly http: number; readonly https: number; readonly ca: string }>
type Told = { readonly carry: 'http' | 'stream'; readonly hostname: string; readonly port: number }

async function startFront(...told: readonly Told[]): Promise<Front> {
  const front: Front = await startProgram([
    ...HEAP,
    join(import.meta.dirname, 'edge.process.ts'),
    JSON.stringify(told),
  ])
  await pin(front.pid, PROXY_PROCESSOR)
  return front
}

const PASS = `location / { proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto http; }`

/** Requests a second through each proxy on one processor; asker and origin have the other. */
async function requests({ scale }: Context, front: Front, peer: Nginx): Promise<Figure[]> {
  const seconds = Math.max(1, Math.round(scale.loadMs / 1000))
  const seen = {
    ours: { p99: [] as number[], micros: [] as number[] },
    peer: { p99: [] as number[], micros: [] as number[] },
  }
  const side = (name: 'ours' | 'peer') => async (): Promise<number> => {
    const server = name === 'ours' ? front : peer
    const port = name === 'ours' ? front.ready.http : peer.port
    const before = server.cpuSeconds()
    const hit = await wrk(`http://127.0.0.1:${port}/`, {
      processor: OTHERS_PROCESSOR,
      connections: CONNECTIONS,
      seconds,
    })
    seen[name].p99.push(hit.latencyP99Ms)
    seen[name].micros.push(((server.cpuSeconds() - before) * 1e6) / hit.answered)
    return hit.perSecond
  }
  // Before it counts: compiled code and open connections for both.
  for (const name of ['ours', 'peer'] as const) for (let it = 0; it < scale.rounds; it++) await side(name)()
  for (const it of [seen.ours, seen.peer]) for (const list of [it.p99, it.micros]) list.length = 0
  const measured = await inTurn(scale.rounds, side('ours'), side('peer'))
  const also = {
    'p99, ours, ms': median(seen.ours.p99),
    'p99, peer, ms': median(seen.peer.p99),
    'CPU per request, ours, µs': median(seen.ours.micros),
    'CPU per request, peer, µs': median(seen.peer.micros),
  }
  return [
    {
      bench: 'edge',
      what: 'GET of 1 KiB through the front door, one processor',
      unit: 'requests/s',
      against: 'nginx before the same origin',
      aim: AIM,
      ...measured,
      also,
    },
  ]
}

/** What comes back through the front door and without it. */
async function echoes({ scale }: Context): Promise<Figure[]> {
  await using echo = await startProgram<{ http: number; tcp: number }>([
    join(import.meta.dirname, 'echo.process.ts'),
  ])
  await using front = await startFront(
    { carry: 'http', hostname: 'echo.example.com', port: echo.ready.http },
    { carry: 'stream', hostname: 'tunnel.example.com', port: echo.ready.tcp },
  )
  const { https, ca } = front.ready
  const through = async (servername: string): Promise<number> =>
    await echoWebSocket(`wss://127.0.0.1:${https}/`, { servername, host: servername, ca }, scale.loadMs)
  const direct = async (): Promise<number> =>
    await echoWebSocket(`ws://127.0.0.1:${echo.ready.http}/`, {}, scale.loadMs)
  const common = { bench: 'edge', unit: 'MB/s' }
  return [
    {
      ...common,
      what: 'WebSocket echo of 64 KiB messages through the front door, over TLS',
      against: 'the same without TLS and front door',
      ...(await inTurn(scale.rounds, async () => await through('echo.example.com'), direct)),
    },
    {
      ...common,
      what: 'TCP echo through a tunnel, over TLS',
      against: 'a direct TCP connection',
      ...(await inTurn(
        scale.rounds,
        async () => await through('tunnel.example.com'),
        async () => await echoTcp(echo.ready.tcp, scale.loadMs),
      )),
    },
  ]
}

/** Memory that connections take which asked once and are kept. */
async function idle({ scale }: Context, front: Front, peer: Nginx): Promise<Figure> {
  const count = scale.rounds > 1 ? IDLE_CONNECTIONS : CONNECTIONS
  const grown = async (port: number, memoryMb: () => number): Promise<number> => {
    const before = memoryMb()
    const sockets: Socket[] = []
    for (let it = 0; it < count; it++) {
      const socket = connect(port, '127.0.0.1').on('error', () => {})
      socket.write('GET / HTTP/1.1\r\nHost: bench.example.com\r\n\r\n')
      await once(socket, 'data')
      sockets.push(socket)
    }
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS))
    const grew = memoryMb() - before
    for (const socket of sockets) socket.destroy()
    return grew
  }
  const ours = await grown(front.ready.http, () => front.memoryMb())
  const theirs = await grown(peer.port, () => peer.memoryMb())
  return {
    bench: 'edge',
    what: `memory that ${count} idle connections add`,
    unit: 'MB',
    ours,
    against: 'nginx before the same origin',
    peer: theirs,
    ratio: ours / Math.max(theirs, SMALLEST_MB),
    rounds: { ours: [ours], peer: [theirs] },
    also: { 'memory of the process with them, ours, MB': front.memoryMb() },
  }
}

async function run(context: Context): Promise<Figure[]> {
  const { scratch } = context
  await using origin = await startNginx(
    join(scratch, 'origin'),
    OTHERS_PROCESSOR,
    `location / { return 200 "${PAGE}"; }`,
  )
  const upstream = `upstream origin { server 127.0.0.1:${origin.port}; keepalive 256; keepalive_requests 1000000000; }`
  await using peer = await startNginx(join(scratch, 'peer'), PROXY_PROCESSOR, PASS, upstream)
  await using front = await startFront(
    { carry: 'http', hostname: 'bench.example.com', port: origin.port },
    { carry: 'http', hostname: '127.0.0.1', port: origin.port },
  )
  return [
    ...(await requests(context, front, peer)),
    await idle(context, front, peer),
    ...(await echoes(context)),
  ]
}

export const edge: Bench = {
  name: 'edge',
  about: "the front door against Debian's nginx before the same origin, and against no proxy at all",
  needs: ['nginx'],
  run,
}
