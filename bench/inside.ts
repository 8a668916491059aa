import { mkdtemp } from 'node:fs/promises'
import http from 'node:http'
import { join } from 'node:path'
import { startBare } from './bare.ts'
import type { Bench, Context } from './context.ts'
import { atLeast, atMost, type Figure } from './figure.ts'
import { startLoad } from './load.ts'
import { type Program, startProgram } from './process.ts'
import { compareReads } from './reads.ts'
import { inTurn } from './rounds.ts'

const PATH = '/v1/container'
const URL_ANY = `http://localhost${PATH}`
const IDLE_SOCKETS = 200
const FLOOD_CONNECTIONS = 24
const KB = 1000

type Member = { readonly socketPath: string; readonly token: string }
type Inside = Program<{ readonly members: readonly [Member, Member] }>

const startInside = async (scratch: string): Promise<Inside> =>
  await startProgram(['--expose-gc', join(import.meta.dirname, 'inside.process.ts'), scratch])
const tokenOf = ({ token }: Member) => ({ 'x-cycle-token': token })

async function answerOf({ socketPath, token }: Member): Promise<unknown> {
  return await new Promise((resolve, reject) => {
    http
      .get({ socketPath, path: PATH, agent: false, headers: { 'x-cycle-token': token } }, (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('end', () => resolve(JSON.parse(Buffer.concat(chunks).toString('utf8'))))
      })
      .on('error', reject)
  })
}

async function requests(context: Context, inside: Inside): Promise<Figure> {
  const [member] = inside.ready.members
  const answer = await answerOf(member)
  const socketPath = join(context.scratch, 'bare.sock')
  await using load = await startLoad()
  await using bare = await startBare([{ method: 'GET', path: PATH, status: 200, answer }], { socketPath })
  return {
    bench: 'inside',
    what: "GET of the own container, through a replica's socket",
    against: 'a bare fastify route with the same body on a unix socket',
    aim: atLeast('ratio', 0.8),
    ...(await compareReads(
      context,
      load,
      { server: inside, url: URL_ANY, socketPath: member.socketPath, headers: tokenOf(member) },
      { server: bare, url: URL_ANY, socketPath },
    )),
  }
}

async function idle({ scale }: Context, inside: Inside): Promise<Figure> {
  const count = scale.rounds > 1 ? IDLE_SOCKETS : 2
  const grown = async (isBare: boolean): Promise<number> =>
    (await inside.ask<{ bytes: number }>({ count, isBare })).bytes / count / KB
  return {
    bench: 'inside',
    what: `memory of a replica's socket that nobody asks (${IDLE_SOCKETS} at once)`,
    unit: 'KB',
    against: 'a server of Node on a unix socket',
    aim: atMost('value', 100),
    ...(await inTurn(
      scale.rounds,
      async () => await grown(false),
      async () => await grown(true),
    )),
  }
}

/** How long one replica waits for an answer while another asks without a pause, and while it does not. */
async function flood({ scale }: Context, inside: Inside): Promise<Figure> {
  const [one, other] = inside.ready.members
  await using load = await startLoad()
  await using flooding = await startLoad()
  const shot = (member: Member, connections: number, forMs: number) => ({
    url: URL_ANY,
    socketPath: member.socketPath,
    headers: tokenOf(member),
    connections,
    forMs,
  })
  const alone = async (): Promise<number> => (await load.fire(shot(one, 1, scale.loadMs))).latencyP99Ms
  const beside = async (): Promise<number> => {
    const flooded = flooding.fire(shot(other, FLOOD_CONNECTIONS, scale.loadMs * 1.5))
    const [{ latencyP99Ms }] = await Promise.all([load.fire(shot(one, 1, scale.loadMs)), flooded])
    return latencyP99Ms
  }
  return {
    bench: 'inside',
    what: `p99 of one replica's requests while another floods its own socket (${FLOOD_CONNECTIONS} connections)`,
    unit: 'ms',
    against: 'the same without the flood',
    ...(await inTurn(scale.rounds, beside, alone)),
  }
}

async function run(context: Context): Promise<Figure[]> {
  await using inside = await startInside(await mkdtemp(join(context.scratch, 'i')))
  return [await requests(context, inside), await idle(context, inside), await flood(context, inside)]
}

export const inside: Bench = {
  name: 'inside',
  about: "the workloads' own API over their sockets: requests, idle sockets, a flood on one",
  needs: [],
  run,
}
