import type { IncomingMessage } from 'node:http'
import type { Readable, Writable } from 'node:stream'
import { type ClientOptions, WebSocket } from 'ws'
import { EXIT, Failure } from './failure.ts'

/** What may wait in memory for the tunnel; above it the local side is not read. */
const WAITING_BYTES_MAX = 1_048_576
const HANDSHAKE_MS_MAX = 30_000
const MESSAGE_BYTES_MAX = 16_777_216
/** Offered so that each side can end its half: by an empty message. */
const HALF_CLOSE = 'arcus-half-close'
const NORMAL = 1000
const NO_CODE = 1005

/** Where a tunnel is entered, and what its certificate is trusted by. */
export type Entrance = {
  readonly hostname: string
  /** Of the edge, where the name does not lead to it. */
  readonly address: string
  readonly port: number
  /** Certificates in PEM; absent: those of the system. */
  readonly ca?: readonly string[]
}

/** The local end of one connection. */
export type LocalEnd = {
  readonly from: Readable
  readonly to: Writable
  /** Tells it that nothing more comes. */
  readonly end: () => void
}

const trustHint = (hostname: string): string =>
  `download the certificate of the authority that signed for ${hostname} (an Arcus cloud gives its own at /ca.crt of its API) and name it with --ca FILE`

/** What went wrong, and what to do, in words. */
export function failureOf(error: NodeJS.ErrnoException, { hostname, address, port }: Entrance): Failure {
  const { code = '', message } = error
  const at = `${address}:${port}`
  if (/UNRECOGNIZED_NAME/.test(code) || /unrecognized name/i.test(message))
    return new Failure(
      EXIT.refused,
      `the edge at ${at} serves no ${hostname}`,
      'check the name, and that its tunnel is active',
    )
  if (/CERT|SELF_SIGNED|UNABLE_TO_VERIFY/.test(code))
    return new Failure(
      EXIT.unreachable,
      `cannot trust the certificate of ${hostname} (${code})`,
      trustHint(hostname),
    )
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN')
    return new Failure(
      EXIT.unreachable,
      `cannot find ${address} (${code})`,
      'name the edge with --edge ADDRESS:PORT where DNS does not lead to it',
    )
  return new Failure(
    EXIT.unreachable,
    `cannot reach the edge at ${at} (${code || message})`,
    'name another with --edge ADDRESS:PORT',
  )
}

const REFUSALS: Readonly<Record<number, string>> = {
  404: 'has no tunnel',
  421: 'is served over TLS alone: it is no tunnel of this kind',
  502: 'has a tunnel, but what is behind it does not answer',
  503: 'has a tunnel, but nothing behind it is ready',
}

function refusalOf({ statusCode = 0 }: IncomingMessage, hostname: string): Failure {
  const why = REFUSALS[statusCode] ?? `is no tunnel for connections (it answered ${statusCode})`
  return new Failure(EXIT.refused, `${hostname} ${why}`, 'see the tunnel with: arcus get tunnel')
}

/** Bytes of the local end to the tunnel, at the tunnel's pace; its end as an empty message, or as the end of both. */
function sendLocal(socket: WebSocket, { from }: LocalEnd): void {
  from.on('data', (chunk: Buffer) => {
    if (socket.readyState !== socket.OPEN) return
    socket.send(chunk, { binary: true }, () => {
      if (from.isPaused() && socket.bufferedAmount < WAITING_BYTES_MAX / 2) from.resume()
    })
    if (socket.bufferedAmount >= WAITING_BYTES_MAX) from.pause()
  })
  const ended = (): void => {
    if (socket.readyState !== socket.OPEN) return
    if (socket.protocol === HALF_CLOSE) socket.send(Buffer.alloc(0))
    else socket.close(NORMAL)
  }
  // One that sent nothing may have ended before anybody listened.
  if (from.readableEnded) ended()
  else from.once('end', ended)
}

/**
 * Carries one connection through the tunnel until both sides ended it. Throws a Failure when the tunnel cannot be entered,
 * or breaks; `signal` ends it early.
 */
export async function carry(entrance: Entrance, local: LocalEnd, signal: AbortSignal): Promise<void> {
  const { hostname, address, port, ca } = entrance
  const host = address.includes(':') ? `[${address}]` : address
  const options: ClientOptions & { readonly servername: string } = {
    servername: hostname,
    headers: { host: hostname },
    perMessageDeflate: false,
    handshakeTimeout: HANDSHAKE_MS_MAX,
    maxPayload: MESSAGE_BYTES_MAX,
    ...(ca === undefined ? {} : { ca: [...ca] }),
  }
  local.from.pause()
  const socket = new WebSocket(`wss://${host}:${port}/`, [HALF_CLOSE], options)
  const stop = (): void => socket.terminate()
  signal.addEventListener('abort', stop, { once: true })
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('unexpected-response', (_, response: IncomingMessage) => {
        response.resume()
        reject(refusalOf(response, hostname))
        socket.terminate()
      })
      socket.once('error', (error) => reject(failureOf(error, entrance)))
      socket.once('open', () => {
        sendLocal(socket, local)
        local.from.resume()
      })
      socket.on('message', (data: Buffer) => {
        if (!data.length) return local.end()
        if (local.to.destroyed || local.to.write(data)) return
        socket.pause()
        local.to.once('drain', () => socket.resume())
      })
      local.to.once('close', () => socket.resume())
      local.from.once('error', () => socket.terminate())
      local.to.once('error', () => socket.terminate())
      socket.once('close', (code, reason) => {
        if (code === NORMAL || code === NO_CODE || signal.aborted) return resolve()
        const why = reason.toString() || `code ${code}`
        reject(new Failure(EXIT.refused, `the connection through ${hostname} broke (${why})`))
      })
    })
  } finally {
    signal.removeEventListener('abort', stop)
    local.end()
  }
}
