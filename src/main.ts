import { randomBytes } from 'node:crypto'
import { accessSync, constants, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { availableParallelism, hostname } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { openAuthority } from '#lib/authority.ts'
import { systemClock } from '#lib/clock.ts'
import { PROGRAM } from '#lib/entry.ts'
import { CloudError, messageOf } from '#lib/errors.ts'
import { writeAtomically } from '#lib/files.ts'
import { guardedOpener } from '#lib/guarded.ts'
import { createIds } from '#lib/ids.ts'
import { jsonLog, type Log } from '#lib/log.ts'
import { openBulk } from '#engine/bulk.ts'
import { createEngine } from '#engine/engine.ts'
import { createKeyring, openMasterKey } from '#engine/secrets.ts'
import type { Store } from '#engine/store.ts'
import { openSqliteStore } from '#engine/store.sqlite.ts'
import { createCloud, type Drivers } from '#cloud/cloud.ts'
import { KINDS, RECONCILED } from '#cloud/kinds.ts'
import { cloudflareApi } from '#drivers/cloudflare/api.ts'
import { cloudflareRecords } from '#drivers/cloudflare/records.ts'
import { cloudflareTunnels } from '#drivers/cloudflare/tunnels.ts'
import { smtpMail } from '#drivers/mail/smtp.ts'
import { acmeDriver } from '#drivers/issuer/acme.ts'
import { internalIssuer } from '#drivers/issuer/internal.ts'
import { systemNames, textsAt } from '#drivers/names/system.ts'
import { simulatedConnector } from '#drivers/simulated/authority.ts'
import { EVERY_PROMISE } from '#cloud/network/promises.driver.ts'
import { simulatedCompute } from '#drivers/simulated/compute.ts'
import { simulatedEdge } from '#drivers/simulated/edge.ts'
import { simulatedFront } from '#drivers/simulated/front.ts'
import { simulatedNetwork } from '#drivers/simulated/network.ts'
import { openDiskImages } from '#drivers/images/images.ts'
import { openSockets, type SocketsOptions } from '#drivers/inside/sockets.ts'
import { DIALECTS } from '#apis/dialects.ts'
import { metadataOf } from '#apis/cycle/metadata.ts'
import { createHttp } from '#apis/http.ts'
import { ensureCertificateApart } from '#apis/tls.ts'
import { runCommand } from '#setup/main.ts'
import { clashes, hostRoutes } from '#setup/ranges.ts'
import { type Address, type Config, readConfig } from './config.ts'

type Admin = { readonly username: string; readonly password: string; readonly token: string }
type Closing = { close(): Promise<void> }

const HELP = `The cloud process, which \`arcus up\` and \`arcus serve\` start; \`arcus serve --help\` lists its options.
It takes --agent SOCKET and --edge SOCKET of the other two, or has them in itself by --in-process.`

const adminFile = (data: string): string => join(data, 'admin.json')

/** Runs the cloud process until it is told to stop. */
async function main(): Promise<void> {
  const args = process.argv.slice(2)
  if (args.includes('--help') || args.includes('-h')) return console.log(HELP)
  const config = readConfig(args, process.env)
  const log = jsonLog(config.logLevel)
  const stop = untilSignalled()
  openDirectory(config.data)
  const clock = systemClock
  const keyring = createKeyring(await openMasterKey(join(config.data, 'master.key'), randomBytes))
  await using store = await openSqliteStore({ directory: config.data, clock, log })
  const ids = createIds(clock, undefined, await store.newest())
  const engine = createEngine({
    store,
    kinds: KINDS,
    clock,
    ids,
    keyring,
    log,
    random: Math.random,
    tenantRefs: true,
    reconciled: RECONCILED,
  })
  // Before anything is written: data of a later version stays as it is.
  await engine.check()
  const tls = join(config.data, 'tls')
  const authority = openAuthority({ folder: tls, clock })
  const { drivers: host, close, instances } = await openDrivers(config, await nextEpoch(store), log)
  const sockets = openSockets({
    ...instances,
    clock,
    log,
  })
  const images = await openDiskImages({
    folder: join(config.data, 'images'),
    open: guardedOpener(config.settings.allowedNetworks),
    log: log.with({ part: 'images' }),
  })
  const api = cloudflareApi(config.cloudflareApi)
  const drivers = {
    ...host,
    images,
    mail: smtpMail(),
    sockets,
    issuers: { internal: internalIssuer(authority), acme: acmeDriver() },
    records: cloudflareRecords(api, clock, textsAt),
    cloudflare: cloudflareTunnels(api),
    names: systemNames(),
  }
  await using bulk = openBulk({ directory: join(config.data, 'records'), clock, log })
  const machine = { hostname: hostname(), cpus: availableParallelism() }
  const settings = { ...config.settings, machine }
  const cloud = createCloud({ engine, bulk, drivers, settings, log, version: readVersion(), metadataOf })
  await cloud.bootstrap(
    async (admin) => await writeAtomically(adminFile(config.data), `${JSON.stringify(admin, null, 2)}\n`),
    () => randomBytes(16).toString('hex'),
  )
  const http = await createHttp({
    cloud,
    dialects: DIALECTS,
    log,
    clock,
    ids,
    // The edge hands on what service tunnels bring, with the client's address.
    trustedProxies: ['127.0.0.0/8', '::1', ...config.trustedProxies],
    authority: async () => (await authority.current()).cert,
    certificate: async () =>
      await ensureCertificateApart({
        folder: tls,
        names: [hostname(), config.listen.host, ...DIALECTS.map((it) => `${it.name}.localhost`)],
        clock,
      }),
  })
  // Before anything else asks for them: what runs connects again at once.
  await sockets.serve(http.accept)
  const { port } = await http.listen(config.listen)
  for (const { dialect, address } of config.alone) await http.listen({ ...address, dialect })
  const running = cloud.run(stop)
  await announce(config, { ...config.listen, port })
  await running
  await http.close()
  await sockets.close()
  await images.close()
  await close()
}

type Opened = Closing & {
  readonly drivers: Omit<
    Drivers,
    'issuers' | 'records' | 'names' | 'cloudflare' | 'sockets' | 'images' | 'mail'
  >
  /** Where the folders of the replicas' own sockets are, and who makes one. */
  readonly instances: Pick<SocketsOptions, 'folder' | 'make'>
}

/** Where the drivers are: simulated here, in this process, or behind the sockets of the host agent and the edge. */
async function openDrivers(config: Config, epoch: number, log: Log): Promise<Opened> {
  const instances = join(config.agent === undefined ? config.data : dirname(config.agent), 'instances')
  const simulated = config.compute === 'simulated' && config.network === 'simulated'
  if (simulated) {
    // Names and the front door may be real all the same: of what leads to addresses that this machine has.
    const edge = config.edge === undefined ? undefined : await openEdge(config.edge, log)
    return {
      drivers: {
        compute: simulatedCompute(systemClock),
        network: simulatedNetwork(),
        ...(edge?.drivers ?? {
          edge: simulatedEdge(),
          front: simulatedFront(),
          connector: simulatedConnector(),
        }),
      },
      instances: {
        folder: instances,
        make: async (replica) => await Promise.resolve(makeFolder(join(instances, replica))),
      },
      close: async () => await edge?.close(),
    }
  }
  if (config.compute === 'simulated' || config.network === 'simulated')
    throw new CloudError(
      'invalid',
      'Containers of Docker need a network: give --compute docker with --network linux or docker-bridge, or simulated for both',
    )
  const cut = clashes([config.settings.fabric, config.settings.externalCidr], hostRoutes())
  if (cut.length)
    throw new CloudError(
      'conflict',
      `This host routes ${cut.join(', ')}, which Arcus would use for itself; choose other ranges with --fabric and --external-pool`,
    )
  // Loaded only where they are used: they would be half of the start of a cloud without them.
  if (config.inProcess) {
    const { localHost } = await import('./local-host.ts')
    const { localEdge } = await import('./local-edge.ts')
    const { network } = config
    const host = await localHost({
      directory: join(config.data, 'agent'),
      instances: { folder: instances, owner: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 } },
      network: network === 'docker-bridge' ? network : 'linux',
      publishedPorts: config.settings.publishedPorts,
      clock: systemClock,
      log,
    })
    const folder = join(config.data, 'edge')
    makeFolder(folder)
    const at = ({ host: address, port }: Address) => ({ address, port })
    const { close: closeEdge, ...edge } = await localEdge({
      directory: folder,
      dns: network === 'linux' ? { address: config.settings.resolver, port: 53 } : undefined,
      http: at(config.front.http),
      https: at(config.front.https),
      clock: systemClock,
      log,
    })
    const close = async (): Promise<void> => {
      await closeEdge()
      await host.close()
    }
    return {
      drivers: { network: host.network, compute: host.compute, ...edge },
      instances: { folder: instances, make: host.compute.prepare },
      close,
    }
  }
  if (config.agent === undefined || config.edge === undefined)
    throw new CloudError(
      'invalid',
      'Give --agent SOCKET and --edge SOCKET, or --in-process; `./arcus serve` and `./arcus up` do it for you',
    )
  const { remoteDrivers } = await import('#drivers/remote/client.ts')
  const { BRIDGE_PROMISES } = await import('#drivers/docker/bridge-promises.ts')
  const promises = config.network === 'docker-bridge' ? BRIDGE_PROMISES : EVERY_PROMISE
  const host = remoteDrivers({ socket: config.agent, epoch, promises, log })
  const edge = await openEdge(config.edge, log)
  const close = async (): Promise<void> => {
    await edge.close()
    await host.close()
  }
  return {
    drivers: { network: host.network, compute: host.compute, ...edge.drivers },
    instances: { folder: instances, make: host.compute.prepare },
    close,
  }
}

/** The edge process, behind its socket. */
async function openEdge(socket: string, log: Log) {
  const { remoteEdge } = await import('#drivers/edge/client.ts')
  const edge = remoteEdge({ socket, log })
  const { front, connector } = edge
  return { drivers: { edge, front, connector }, close: async () => await edge.close() }
}

/** Every start of the cloud has a higher number; the host agent refuses one that was overtaken. */
async function nextEpoch(store: Store): Promise<number> {
  const seen = await store.guard('epoch')
  await store.commit([{ do: 'guard', name: 'epoch', seen }])
  return seen + 1
}

function openDirectory(path: string): void {
  try {
    makeFolder(path)
    accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK)
  } catch (error) {
    throw new CloudError(
      'unavailable',
      `The data folder ${path} cannot be used (${messageOf(error)}); choose another with --data or mend its permissions`,
      {},
      error,
    )
  }
}

/** Makes the folder with those above it, one by one: Node's own recursion never ends where a file system refuses. */
function makeFolder(path: string): void {
  const missing: string[] = []
  for (let at = resolve(path); !existsSync(at); at = dirname(at)) missing.unshift(at)
  for (const it of missing) mkdirSync(it, { mode: 0o700 })
}

function readVersion(): { version: string; commit: string | null } {
  const { version } = JSON.parse(readFileSync(join(PROGRAM, 'package.json'), 'utf8')) as { version: string }
  const commit = join(PROGRAM, '.commit')
  return { version, commit: existsSync(commit) ? readFileSync(commit, 'utf8').trim() : null }
}

/** Says that requests are served: one JSON line, or a few for a person. */
async function announce(config: Config, { host, port }: Address): Promise<void> {
  const loopback = host === 'localhost' || host === '::1' || host.startsWith('127.')
  const url = `${loopback ? 'http' : 'https'}://${host.includes(':') ? `[${host}]` : host}:${port}`
  const admin = JSON.parse(await readFile(adminFile(config.data), 'utf8')) as Admin
  if (config.json) process.stdout.write(`${JSON.stringify({ ready: true, url, admin })}\n`)
  else
    process.stdout.write(
      `Arcus serves ${url}\nThe first administrator's credentials are in ${adminFile(config.data)}\nAPI reference: ${url}/docs/circloud and ${url}/docs/native\n`,
    )
}

/** Aborts at the first SIGINT or SIGTERM; a second ends the process at once. */
function untilSignalled(): AbortSignal {
  const controller = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const)
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(1)
      controller.abort(new Error(`stopped by ${name}`))
    })
  return controller.signal
}

await runCommand('serve', main)
process.exit()
