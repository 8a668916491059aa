import type { Command } from 'commander'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer, isIP, type Socket } from 'node:net'
import { connect as connectTls, getCACertificates } from 'node:tls'
import { messageOf } from '#lib/errors.ts'
import { carry, type Entrance, failureOf } from './carrier.ts'
import { type Flags, resolveConnection } from './config.ts'
import type { Register } from './context.ts'
import { EXIT, Failure, usage } from './failure.ts'
import { say } from './output.ts'
import type { World } from './world.ts'

const HTTPS_PORT = 443
const PORT_MAX = 65_535
const PROBE_MS_MAX = 30_000
const CONNECTIONS_MAX = 1000

type Options = { listen?: string; stdio?: boolean; edge?: string }

const AFTER_HELP = `
For ssh:  ssh -o ProxyCommand='arcus tunnel connect --stdio %h' USER@HOST`

export const registerTunnel: Register = (program, world, done) => {
  const tunnel = program.command('tunnel').description('use tunnels of kind tcp and ssh')
  tunnel
    .command('connect')
    .description('carry connections to a local port, or standard input and output, through a tunnel')
    .argument('<host>', "the tunnel's hostname")
    .option('--listen <[address:]port>', 'carry each connection to this port of 127.0.0.1, or of the address')
    .option('--stdio', 'carry standard input and output: for the ProxyCommand of ssh')
    .option('--edge <address:port>', `the edge, where the hostname does not lead to it (HOST:${HTTPS_PORT})`)
    .addHelpText('after', AFTER_HELP)
    .action(async (host: string, options: Options, command: Command) => {
      const entrance = await entranceOf(host, options, command.optsWithGlobals<Flags>(), world)
      await probe(entrance)
      if (options.stdio)
        await carry(entrance, { from: world.stdin, to: world.stdout, end: () => {} }, world.signal)
      else await listen(entrance, options.listen ?? '', world)
      done(EXIT.ok)
    })
}

/** `ADDRESS:PORT`, `[IPV6]:PORT`, or a port alone at `otherwise`. */
function readPlace(flag: string, text: string, otherwise?: string): { address: string; port: number } {
  const [, v6, name = otherwise, digits] =
    /^(?:(?:\[([0-9a-f:.]+)\]|([\w.-]+)):)?(\d{1,5})$/i.exec(text) ?? []
  const address = v6 ?? name
  const port = Number(digits)
  if (address === undefined || !(port <= PORT_MAX))
    throw usage(
      `--${flag} takes ${otherwise === undefined ? 'ADDRESS:PORT' : '[ADDRESS:]PORT'}, not ${JSON.stringify(text)}`,
    )
  return { address, port }
}

async function entranceOf(host: string, options: Options, flags: Flags, world: World): Promise<Entrance> {
  const hostname = host.toLowerCase().replace(/\.$/, '')
  if (isIP(hostname) || !/^[a-z0-9_-]+(\.[a-z0-9_-]+)+$/.test(hostname))
    throw usage(
      `${host} is no hostname of a tunnel`,
      'give the name, and the address with --edge ADDRESS:PORT',
    )
  if ((options.listen === undefined) === !options.stdio) throw usage('give either --listen PORT or --stdio')
  const place =
    options.edge === undefined ? { address: hostname, port: HTTPS_PORT } : readPlace('edge', options.edge)
  const { ca: file } = await resolveConnection(flags, world)
  if (file === undefined) return { hostname, ...place }
  const own = await readFile(file, 'utf8').catch((error: unknown) => {
    throw usage(`cannot read ${file} as a certificate authority: ${messageOf(error)}`)
  })
  return { hostname, ...place, ca: [...getCACertificates('default'), own] }
}

/** Says what is wrong before anything is carried: a name that is unknown, a certificate that is not trusted. */
async function probe(entrance: Entrance): Promise<void> {
  const { hostname, address, port, ca } = entrance
  const socket = connectTls({
    host: address,
    port,
    servername: hostname,
    ALPNProtocols: ['http/1.1'],
    ...(ca === undefined ? {} : { ca: [...ca] }),
  })
  socket.setTimeout(PROBE_MS_MAX, () => socket.destroy(new Error('no answer in time')))
  try {
    await once(socket, 'secureConnect')
  } catch (error) {
    throw failureOf(error as NodeJS.ErrnoException, entrance)
  } finally {
    socket.on('error', () => {})
    socket.destroy()
  }
}

/** Carries every connection to a local port until it is interrupted. */
async function listen(entrance: Entrance, text: string, world: World): Promise<void> {
  const { address, port } = readPlace('listen', text, '127.0.0.1')
  const server = createServer({ allowHalfOpen: true, noDelay: true })
  server.maxConnections = CONNECTIONS_MAX
  const open = new Set<Socket>()
  server.on('connection', (socket) => {
    open.add(socket)
    socket.once('close', () => open.delete(socket))
    socket.on('error', () => {})
    carry(entrance, { from: socket, to: socket, end: () => void socket.end() }, world.signal).catch(
      (error: unknown) => {
        socket.destroy()
        const hint = error instanceof Failure && error.hint !== undefined ? `\n  ${error.hint}` : ''
        world.stderr.write(`error: ${messageOf(error)}${hint}\n`)
      },
    )
  })
  const listening = once(server, 'listening')
  server.listen(port, address)
  await listening.catch((error: unknown) => {
    throw new Failure(
      EXIT.refused,
      `cannot listen on ${address}:${port}: ${messageOf(error)}`,
      'choose another with --listen PORT',
    )
  })
  const bound = server.address()
  const where = typeof bound === 'object' && bound ? bound.port : port
  say(world, `${address}:${where} leads to ${entrance.hostname}; Ctrl-C ends it`)
  if (!world.signal.aborted) await once(world.signal, 'abort')
  const closed = once(server, 'close')
  server.close()
  for (const socket of open) socket.destroy()
  await closed
}
