import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Answer, decode, encode } from 'dns-packet'
import { openAuthority } from '#lib/authority.ts'
import { systemClock } from '#lib/clock.ts'
import { freePorts, FRONT_ADDRESS } from './cloud.testing.ts'
import { eventually } from './wait.testing.ts'

const READY_MS_MAX = 15_000
const LOG_CHARS_KEPT = 20_000

/** A certificate authority that speaks ACME, for which every name leads to the front door. */
export type AcmeAuthority = AsyncDisposable & {
  /** URL of its directory. */
  readonly directory: string
  /** PEM of who signed for that URL. */
  readonly trust: string
  /** PEM of the root that its certificates come from. */
  root(): Promise<string>
  /** Nobody reaches its directory until `open` is called. */
  shut(): void
  open(): Promise<void>
  log(): string
}

function getText(url: string, ca: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { ca, agent: false, signal: AbortSignal.timeout(5000) }, (answer) => {
      let body = ''
      answer.setEncoding('utf8').on('data', (text: string) => (body += text))
      answer.on('end', () => (answer.statusCode === 200 ? resolve(body) : reject(new Error(body))))
    })
    asked.on('error', reject)
    asked.end()
  })
}

/** The TXT records of a name at this moment. */
export type Texts = (name: string) => readonly string[]

/** DNS of a world in which every name has one address. */
async function serveNames(port: number, address: string, texts: Texts): Promise<AsyncDisposable> {
  const socket = createSocket('udp4')
  socket.on('message', (text, from) => {
    const { id = 0, questions = [] } = decode(text)
    const answers = questions.flatMap(({ type, name }): Answer[] =>
      type === 'A'
        ? [{ type, name, ttl: 1, data: address }]
        : type === 'TXT'
          ? texts(name).map((data) => ({ type, name, ttl: 1, data }))
          : [],
    )
    // Authoritative.
    socket.send(encode({ type: 'response', id, flags: 1 << 10, questions, answers }), from.port, from.address)
  })
  await once(socket.bind(port, FRONT_ADDRESS), 'listening')
  return {
    async [Symbol.asyncDispose]() {
      await once(socket.close(), 'close')
    },
  }
}

/**
 * Debian's pebble behind a door that can be shut; it proves every name at `httpPort` of `address`, or by its TXT records.
 */
export async function startPebble(
  httpPort: number,
  address = FRONT_ADDRESS,
  texts: Texts = () => [],
): Promise<AcmeAuthority> {
  const folder = mkdtempSync(join(tmpdir(), 'arcus-pebble-'))
  const [listen, management, door, dns, unused] = (await freePorts(5)) as [
    number,
    number,
    number,
    number,
    number,
  ]
  const own = openAuthority({ folder, clock: systemClock })
  const { cert, key } = await own.issue([FRONT_ADDRESS], 30)
  const trust = (await own.current()).cert
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text, { mode: 0o600 })
    return join(folder, name)
  }
  const config = {
    pebble: {
      listenAddress: `${FRONT_ADDRESS}:${listen}`,
      managementListenAddress: `${FRONT_ADDRESS}:${management}`,
      certificate: file('server.crt', cert),
      privateKey: file('server.key', key),
      httpPort,
      tlsPort: unused,
      ocspResponderURL: '',
      externalAccountBindingRequired: false,
    },
  }
  const names = await serveNames(dns, address, texts)
  const child = spawn(
    'pebble',
    ['-config', file('config.json', JSON.stringify(config)), '-dnsserver', `${FRONT_ADDRESS}:${dns}`],
    { env: { ...process.env, PEBBLE_VA_NOSLEEP: '1' }, stdio: ['ignore', 'pipe', 'pipe'] },
  )
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve())
    child.once('error', () => resolve())
  })
  let said = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (text: Buffer) => (said = (said + text.toString()).slice(-LOG_CHARS_KEPT)))
  const open = new Set<Socket>()
  const server = createServer((socket) => {
    const on = connect(listen, FRONT_ADDRESS)
    for (const [it, other] of [
      [socket, on],
      [on, socket],
    ] as const) {
      open.add(it)
      it.on('error', () => {})
      it.once('close', () => {
        open.delete(it)
        other.destroy()
      })
      it.pipe(other)
    }
  })
  const shut = (): void => {
    server.close()
    for (const it of open) it.destroy()
  }
  const at: AcmeAuthority = {
    directory: `https://${FRONT_ADDRESS}:${door}/dir`,
    trust,
    root: () => getText(`https://${FRONT_ADDRESS}:${management}/roots/0`, trust),
    shut,
    open: async () => void (await once(server.listen(door, FRONT_ADDRESS), 'listening')),
    log: () => said,
    async [Symbol.asyncDispose]() {
      shut()
      child.kill('SIGKILL')
      await ended
      await names[Symbol.asyncDispose]()
      rmSync(folder, { recursive: true, force: true })
    },
  }
  try {
    await at.open()
    await eventually('pebble answers', async () => await getText(at.directory, trust), READY_MS_MAX)
  } catch (error) {
    await at[Symbol.asyncDispose]()
    throw new Error(`pebble did not start: ${said}`, { cause: error })
  }
  return at
}
