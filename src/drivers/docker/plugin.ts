import { mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { join } from 'node:path'
import type { Finding, Repair } from '#cloud/observe/finding.driver.ts'
import { CloudError, messageOf } from '#lib/errors.ts'
import { readIfThere } from '#lib/files.ts'
import { createServer } from '#lib/http.ts'
import type { Log } from '#lib/log.ts'
import type { HeldAttachment, Links } from './attach.ts'
import { ATTACHMENT_OPTION } from './container.ts'
import { SUBNET_OPTION } from './networks.ts'

/** Docker holds locks while it waits for us: an answer, if only a refusal, comes within this time. */
const CALL_MS = 10_000
const BODY_BYTES_MAX = 1024 * 1024
const SOCKET_FOLDER = '/run/docker/plugins'
const SPEC_FOLDER = '/etc/docker/plugins'
/** The gateway of every attachment's IPv6; on its link alone. */
const GATEWAY6 = 'fe80::1'
const ENDPOINT = /^[0-9a-f]{64}$/
/** In an endpoint's file, after the attachment: Docker has no IPv6 address for it. */
const IPV4_ALONE = 'ipv4'

export type PluginOptions = {
  /** Docker's name for it, and of its socket. */
  readonly name: string
  /** Folder for which endpoint is which attachment's: Docker gives only the endpoint when it takes one down. */
  readonly directory: string
  readonly links: Links
  readonly log: Log
  /** Where Docker looks for sockets; its own folder by default. */
  readonly socketFolder?: string
  readonly specFolder?: string
}

export type NetworkPlugin = {
  readonly endpoints: Endpoints
  /** Whether Docker finds it: its socket and the file that names it. */
  look(): Promise<readonly Repair[]>
  /** Stops answering. Docker still knows the plugin by its spec file, and waits for it. */
  close(): Promise<void>
  /** After close: Docker no longer knows it. */
  forget(): Promise<void>
}

/** One call of Docker's network or address plugin protocol. */
type Call = {
  readonly NetworkID?: string
  readonly EndpointID?: string
  /** Path of the container's network namespace, which is not there before its process. */
  readonly SandboxKey?: string
  readonly Interface?: {
    readonly Address?: string
    readonly AddressIPv6?: string
    readonly MacAddress?: string
  } | null
  readonly Options?: Readonly<Record<string, unknown>> | null
  readonly Pool?: string
  readonly PoolID?: string
  readonly Address?: string
  readonly V6?: boolean
}
type Answer = Readonly<Record<string, unknown>>

/**
 * Docker's network and address driver for VPCs, on a socket that Docker finds. Every call is answered from the plan that
 * is held, never by asking Docker or the cloud, within a deadline: Docker boots and restarts containers with no one else.
 */
export async function networkPlugin(options: PluginOptions): Promise<NetworkPlugin> {
  const socketFolder = options.socketFolder ?? SOCKET_FOLDER
  const specFolder = options.specFolder ?? SPEC_FOLDER
  const socket = join(socketFolder, `${options.name}.sock`)
  const spec = join(specFolder, `${options.name}.spec`)
  const log = options.log.with({ part: 'plugin' })
  const endpoints = await openEndpoints(options.directory)
  const arrivals = createArrivals(options.links, log)
  const answers = answersOf(options.links, endpoints, arrivals)
  const open = async (): Promise<{ server: Server; inode: number | undefined }> => {
    const server = createServer((request, response) => {
      serve(request, response, answers, log).catch((error: unknown) => {
        log.error('plugin call broke', { error })
        response.destroy()
      })
    })
    await listen(server, socket)
    return { server, inode: await inodeOf(socket) }
  }
  await mkdir(socketFolder, { recursive: true, mode: 0o700 })
  await mkdir(specFolder, { recursive: true })
  const writeSpec = (): Promise<void> => writeFile(spec, `unix://${socket}\n`, { mode: 0o644 })
  await writeSpec()
  let current = await open()
  return {
    endpoints,
    async look() {
      const repairs: Repair[] = []
      const missing = (thing: 'socket' | 'file', detail: string): Finding => ({
        what: 'missing',
        thing,
        detail,
        mend: 'driver',
      })
      if ((await inodeOf(socket)) !== current.inode)
        repairs.push({
          finding: missing('socket', `socket ${socket} of Docker's plugin missing`),
          async fix() {
            const { server } = current
            current = await open()
            server.close()
          },
        })
      if ((await readIfThere(spec)) !== `unix://${socket}\n`)
        repairs.push({
          finding: missing('file', `${spec}, by which Docker finds the plugin, missing`),
          fix: writeSpec,
        })
      return repairs
    },
    close: () =>
      new Promise((resolve) => {
        arrivals.endAll()
        current.server.close(() => resolve())
        current.server.closeAllConnections()
      }),
    async forget() {
      await rm(spec, { force: true })
      await rm(socket, { force: true })
    },
  }
}

const inodeOf = async (path: string): Promise<number | undefined> =>
  (await stat(path).catch(() => undefined))?.ino

/** Puts the socket in place in one step, so that at no moment Docker finds none. */
async function listen(server: Server, socket: string): Promise<void> {
  const next = `${socket}.next`
  await rm(next, { force: true })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(next, resolve)
  })
  await rename(next, socket)
}

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  answers: ReturnType<typeof answersOf>,
  log: Log,
): Promise<void> {
  const verb = request.url?.slice(1) ?? ''
  const answer = await within(CALL_MS, verb, async () => {
    const call = await readCall(request)
    const known = Object.hasOwn(answers, verb) ? answers[verb] : undefined
    if (!known) throw new CloudError('unsupported', `${verb} is no call that this plugin knows`)
    return known(call)
  }).catch((error: unknown): Answer => {
    log.warn('plugin call refused', { verb, error: messageOf(error) })
    return { Err: messageOf(error) }
  })
  const text = JSON.stringify(answer)
  response.writeHead('Err' in answer ? 500 : 200, {
    'content-type': 'application/vnd.docker.plugins.v1.2+json',
    'content-length': Buffer.byteLength(text),
  })
  response.end(text)
}

async function within<T>(ms: number, verb: string, work: () => Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    late.reject(new CloudError('unavailable', `${verb} took longer than ${ms / 1000} s`))
  }, ms)
  try {
    return await Promise.race([work(), late.promise])
  } finally {
    clearTimeout(timer)
  }
}

async function readCall(request: IncomingMessage): Promise<Call> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > BODY_BYTES_MAX) throw new CloudError('invalid', 'the call is too large')
    chunks.push(chunk)
  }
  return size ? (JSON.parse(Buffer.concat(chunks).toString('utf8')) as Call) : {}
}

/** Whose an endpoint of Docker is, and whether Docker has an IPv6 address for it. */
type Owned = { readonly attachment: string; readonly ipv6: boolean }

/** Which endpoint of Docker is which attachment's, on disk. An attachment has one: the last made. */
export type Endpoints = {
  all(): readonly { readonly endpoint: string; readonly attachment: string }[]
  of(endpoint: string): Owned | undefined
  put(endpoint: string, owned: Owned): Promise<void>
  remove(endpoint: string): Promise<void>
}

async function openEndpoints(directory: string): Promise<Endpoints> {
  const folder = join(directory, 'endpoints')
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const byEndpoint = new Map<string, Owned>()
  for (const name of await readdir(folder)) {
    if (!ENDPOINT.test(name)) continue
    const [attachment = '', mark] = ((await readIfThere(join(folder, name))) ?? '').split(' ')
    byEndpoint.set(name, { attachment, ipv6: mark !== IPV4_ALONE })
  }
  const remove = async (endpoint: string): Promise<void> => {
    if (byEndpoint.delete(endpoint)) await rm(join(folder, endpoint), { force: true })
  }
  return {
    all: () => [...byEndpoint].map(([endpoint, { attachment }]) => ({ endpoint, attachment })),
    of: (endpoint) => byEndpoint.get(endpoint),
    async put(endpoint, owned) {
      const { attachment, ipv6 } = owned
      if (!ENDPOINT.test(endpoint)) throw new CloudError('invalid', 'that is no id of an endpoint')
      for (const [other, of] of byEndpoint)
        if (of.attachment === attachment && other !== endpoint) await remove(other)
      byEndpoint.set(endpoint, owned)
      // Not synced: Docker waits for this, and no endpoint outlives the machine.
      await writeFile(join(folder, endpoint), ipv6 ? attachment : `${attachment} ${IPV4_ALONE}`, {
        mode: 0o600,
      })
    },
    remove,
  }
}

/** Endpoints whose link is on its way into a container that is given its IPv6 by us, as soon as the link is there. */
type Arrivals = {
  begin(endpoint: string, attachment: string, namespace: string): void
  end(endpoint: string): void
  endAll(): void
}

function createArrivals(links: Links, log: Log): Arrivals {
  const under = new Map<string, AbortController>()
  const end = (endpoint: string): void => {
    under.get(endpoint)?.abort()
    under.delete(endpoint)
  }
  return {
    begin(endpoint, attachment, namespace) {
      end(endpoint)
      const stop = new AbortController()
      under.set(endpoint, stop)
      links
        .giveIpv6(attachment, namespace, 'starting', stop.signal)
        // Whoever looks at the running container sees it, and tries again.
        .catch((error: unknown) => log.debug('IPv6 comes later', { id: attachment, error: messageOf(error) }))
        .finally(() => under.get(endpoint) === stop && under.delete(endpoint))
    },
    end,
    endAll: () => [...under.keys()].forEach(end),
  }
}

function answersOf(
  links: Links,
  endpoints: Endpoints,
  arrivals: Arrivals,
): Readonly<Record<string, (call: Call) => Promise<Answer>>> {
  const nothing = (): Promise<Answer> => Promise.resolve({})
  const say = (answer: Answer) => (): Promise<Answer> => Promise.resolve(answer)
  const heldOf = (id: string | undefined): HeldAttachment => {
    const held = id === undefined ? undefined : links.attachment(id)
    if (!held) throw new CloudError('not_found', `no plan has an attachment ${id ?? 'for this endpoint'}`)
    return held
  }

  return {
    'Plugin.Activate': say({ Implements: ['NetworkDriver', 'IpamDriver'] }),
    'NetworkDriver.GetCapabilities': say({ Scope: 'local', ConnectivityScope: 'local' }),
    'NetworkDriver.CreateNetwork': nothing,
    'NetworkDriver.DeleteNetwork': nothing,
    'NetworkDriver.AllocateNetwork': nothing,
    'NetworkDriver.FreeNetwork': nothing,
    'NetworkDriver.DiscoverNew': nothing,
    'NetworkDriver.DiscoverDelete': nothing,
    'NetworkDriver.ProgramExternalConnectivity': nothing,
    'NetworkDriver.RevokeExternalConnectivity': nothing,
    'NetworkDriver.EndpointOperInfo': say({ Value: {} }),
    async 'NetworkDriver.CreateEndpoint'({ EndpointID = '', Interface, Options }) {
      const asked = Options?.[ATTACHMENT_OPTION]
      const { plan } = heldOf(typeof asked === 'string' ? asked : undefined)
      if (Interface?.Address?.split('/')[0] !== plan.address) {
        throw new CloudError(
          'invalid',
          `the address of ${plan.id} is ${plan.address}, not ${Interface?.Address}`,
        )
      }
      await endpoints.put(EndpointID, { attachment: plan.id, ipv6: !!Interface.AddressIPv6 })
      return { Interface: Interface.MacAddress ? {} : { MacAddress: plan.mac } }
    },
    async 'NetworkDriver.Join'({ EndpointID = '', SandboxKey = '' }) {
      const { attachment, ipv6 = true } = endpoints.of(EndpointID) ?? {}
      const { plan, subnet } = heldOf(attachment)
      const { containerLink } = await links.createLink(plan.id)
      // Not waited for: Docker moves the link after our answer.
      if (!ipv6) arrivals.begin(EndpointID, plan.id, SandboxKey)
      return {
        InterfaceName: { SrcName: containerLink, DstPrefix: 'eth' },
        Gateway: subnet.gateway,
        ...(ipv6 && { GatewayIPv6: GATEWAY6 }),
        StaticRoutes: [],
        // Without this Docker would add its own bridge for the way out.
        DisableGatewayService: true,
      }
    },
    async 'NetworkDriver.Leave'({ EndpointID = '' }) {
      const owned = endpoints.of(EndpointID)
      arrivals.end(EndpointID)
      if (owned) await links.removeLink(owned.attachment)
      return {}
    },
    async 'NetworkDriver.DeleteEndpoint'({ EndpointID = '' }) {
      await endpoints.remove(EndpointID)
      return {}
    },

    'IpamDriver.GetCapabilities': say({ RequiresMACAddress: false, RequiresRequestReplay: false }),
    'IpamDriver.GetDefaultAddressSpaces': say({
      LocalDefaultAddressSpace: 'arcus-local',
      GlobalDefaultAddressSpace: 'arcus-global',
    }),
    'IpamDriver.ReleasePool': nothing,
    'IpamDriver.ReleaseAddress': nothing,
    // A pool is the subnet's, whatever range another VPC's subnet has.
    'IpamDriver.RequestPool': ({ Pool, V6, Options }) => {
      const subnet = Options?.[SUBNET_OPTION]
      if (!Pool || typeof subnet !== 'string') {
        return Promise.reject(
          new CloudError('invalid', `a pool needs a range and the option ${SUBNET_OPTION}`),
        )
      }
      const data = V6 ? { 'com.docker.network.gateway': `${GATEWAY6}/64` } : {}
      return Promise.resolve({ PoolID: `${subnet}/${V6 ? 6 : 4}/${Pool}`, Pool, Data: data })
    },
    // The plan decides addresses; whose it is, is checked when the endpoint is made.
    'IpamDriver.RequestAddress': ({ PoolID = '', Address }) => {
      // Of IPv6 a machine has a /128: the router does not answer for neighbours, all of them are behind the gateway.
      const prefix = Address?.includes(':') ? '128' : PoolID.slice(PoolID.lastIndexOf('/') + 1)
      if (!Address || !/^\d{1,3}$/.test(prefix)) {
        return Promise.reject(
          new CloudError('invalid', 'addresses come from the plan; Docker has to name the one it wants'),
        )
      }
      return Promise.resolve({ Address: `${Address}/${prefix}`, Data: {} })
    },
  }
}
