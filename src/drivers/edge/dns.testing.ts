import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { type Answer, decode, type DecodedPacket, encode, type RecordType } from 'dns-packet'

const ANSWER_MS_MAX = 8000

export type Asked = { readonly name: string; readonly type: RecordType; readonly transport: 'udp' | 'tcp' }
export type Told = {
  readonly rcode?: number
  readonly answers?: readonly Answer[]
  readonly authorities?: readonly Answer[]
  readonly truncated?: boolean
  /** Changes the bytes before they leave. */
  readonly bend?: (bytes: Buffer) => Buffer
}
/** Undefined: says nothing. */
export type Tells = (asked: Asked) => Told | undefined

export type Upstream = AsyncDisposable & { readonly port: number; readonly asked: Asked[] }

function tell(
  message: Buffer,
  transport: Asked['transport'],
  tells: Tells,
  asked: Asked[],
): Buffer | undefined {
  const query = decode(message)
  const [question] = query.questions ?? []
  if (!question) return undefined
  const it = { name: question.name, type: question.type, transport }
  asked.push(it)
  const told = tells(it)
  if (!told) return undefined
  const flags = 0x0180 | (told.truncated ? 0x0200 : 0) | (told.rcode ?? 0)
  const { answers = [], authorities = [] } = told
  const bytes = encode({
    type: 'response',
    ...(query.id === undefined ? {} : { id: query.id }),
    flags,
    questions: [question],
    answers: [...answers],
    authorities: [...authorities],
  })
  return told.bend?.(bytes) ?? bytes
}

/** A resolver to forward to, by UDP and TCP, that says what a test tells it to. */
export async function startUpstream(address: string, port: number, tells: Tells): Promise<Upstream> {
  const asked: Asked[] = []
  const udp = createSocket('udp4')
  udp.on('message', (message, from) => {
    const answer = tell(message, 'udp', tells, asked)
    if (answer) udp.send(answer, from.port, from.address)
  })
  udp.bind(port, address)
  await once(udp, 'listening')
  const bound = udp.address().port
  const open = new Set<Socket>()
  const tcp = createServer((socket) => {
    open.add(socket)
    socket.on('error', () => {})
    socket.once('data', (data: Buffer) => {
      const answer = tell(data.subarray(2), 'tcp', tells, asked)
      if (answer) socket.end(framed(answer))
    })
  })
  tcp.listen(bound, address)
  await once(tcp, 'listening')
  return {
    port: bound,
    asked,
    async [Symbol.asyncDispose]() {
      udp.close()
      for (const socket of open) socket.destroy()
      tcp.close()
      await once(tcp, 'close')
    },
  }
}

export function framed(message: Buffer): Buffer {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(message.length)
  return Buffer.concat([length, message])
}

export type Server = { readonly address: string; readonly port: number }

/** Sends bytes by UDP from an address of this host; the bytes that come back. */
export async function sendUdp(
  server: Server,
  caller: string,
  message: Buffer,
  answerMsMax = ANSWER_MS_MAX,
): Promise<Buffer> {
  const socket = createSocket('udp4')
  try {
    socket.bind(0, caller)
    await once(socket, 'listening')
    const answer = once(socket, 'message', { signal: AbortSignal.timeout(answerMsMax) })
    socket.send(message, server.port, server.address)
    const [bytes] = (await answer) as [Buffer]
    return bytes
  } finally {
    socket.close()
  }
}

/** Sends messages by TCP, one after the other in one connection; as many answers. */
export async function sendTcp(
  server: Server,
  caller: string,
  messages: readonly Buffer[],
): Promise<Buffer[]> {
  const socket = connect({ host: server.address, port: server.port, localAddress: caller })
  socket.setTimeout(ANSWER_MS_MAX, () => socket.destroy(new Error('no answer in time')))
  const answers: Buffer[] = []
  socket.write(Buffer.concat(messages.map(framed)))
  let received: Buffer = Buffer.alloc(0)
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    received = Buffer.concat([received, chunk])
    while (received.length >= 2 && received.length >= received.readUInt16BE(0) + 2) {
      const end = received.readUInt16BE(0) + 2
      answers.push(received.subarray(2, end))
      received = received.subarray(end)
    }
    if (answers.length >= messages.length) break
  }
  return answers
}

export const query = (
  name: string,
  type: RecordType = 'A',
  how: { edns?: number; flags?: number; id?: number } = {},
): Buffer =>
  encode({
    type: 'query',
    id: how.id ?? 4711,
    flags: how.flags ?? 0x0100,
    questions: [{ name, type }],
    additionals: how.edns
      ? [
          {
            type: 'OPT',
            name: '.',
            udpPayloadSize: how.edns,
            extendedRcode: 0,
            ednsVersion: 0,
            flags: 0,
            flag_do: false,
            options: [],
          },
        ]
      : [],
  })

export type Seen = DecodedPacket & { readonly rcode: string }

export const read = (bytes: Buffer): Seen => decode(bytes) as Seen

/** What the answers hold, in the order in which they came. */
export const dataOf = (packet: DecodedPacket): unknown[] =>
  (packet.answers ?? []).map((it) => ('data' in it ? it.data : it.options))
