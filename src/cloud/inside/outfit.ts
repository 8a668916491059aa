import { isCloudError } from '#lib/errors.ts'
import { objectId } from '#lib/object-id.ts'
import { slugOf } from '#lib/slug.ts'
import type { Engine } from '#engine/engine.ts'
import type { ContainerWish, InsideFile } from '#cloud/compute/compute.driver.ts'
import { attemptOf, type Replica } from '#cloud/compute/replica.kind.ts'
import { type Service, SERVICES } from '#cloud/compute/workload.kind.ts'
import { address6Of, cidr6Of } from '#cloud/network/addresses.driver.ts'
import { subnet, type Subnet } from '#cloud/network/subnet.kind.ts'
import type { Vpc } from '#cloud/network/vpc.kind.ts'
import type { GivenVariable, Inside, Instance, ServedCertificate, Server } from './inside.ts'
import type { SocketsDriver } from './sockets.driver.ts'

/** Where a container finds what is its replica's own; two spellings of one place. */
const INSIDE = ['/var/run/cycle', '/run/cycle'] as const
/** Through which the platform is reached from inside. */
const API_URL = `unix://${INSIDE[0]}/api/api.sock`
/** The kernel shares out CPU time anew this often. */
const CPU_PERIOD_US = 100_000
/** Readable for every user in the container, unless told; nobody writes through the mount. */
const FILE_MODE = 0o444
const KEY_MODE = 0o400

/** What the file about a VPC is made of. */
export type Metadata = {
  readonly vpc: Vpc
  readonly services: Partial<Readonly<Record<Service, { readonly workload: { readonly id: string } }>>>
}

export type OutfitOptions = {
  readonly engine: Engine
  readonly sockets: SocketsDriver
  readonly inside: () => Pick<Inside, 'token' | 'instance' | 'given' | 'certificates' | 'server'>
  /** The document that a container finds about its VPC; absent: it finds none. */
  readonly metadataOf?: (of: Metadata) => unknown
}

/** What replicas' containers are given beside what their workloads say: a socket of their own, variables and files. */
export type Outfits = {
  /** Makes the replica's socket; gives the wish with what goes along with it, as it is now. */
  fit(wish: ContainerWish, it: Replica, signal: AbortSignal): Promise<ContainerWish>
  /** Takes back what was made for a replica. */
  remove(replica: string, signal: AbortSignal): Promise<void>
}

export function createOutfits({ engine, sockets, inside, metadataOf }: OutfitOptions): Outfits {
  let machine: Promise<Server> | undefined

  const metadata = async ({ vpc }: Instance): Promise<readonly InsideFile[]> => {
    if (!metadataOf) return []
    const found = await Promise.all(
      SERVICES.map(async (service) => {
        const claim = await engine.store.claim(`service:${vpc.id}`, service)
        return claim ? [[service, { workload: { id: claim.owner } }] as const] : []
      }),
    )
    const document = metadataOf({ vpc, services: Object.fromEntries(found.flat()) })
    return [fileOf('metadata/environment.json', JSON.stringify(document))]
  }

  return {
    async fit(wish, it, signal) {
      try {
        await sockets.ensure(wish.id, signal)
      } catch (error) {
        // A host agent of before there were sockets: its containers are given theirs when it was upgraded.
        if (isCloudError(error, 'unsupported')) return wish
        throw error
      }
      const of = await inside().instance(it.id)
      const within = await engine.get(subnet, it.tenant, it.spec.subnet)
      if (!of || !within) return wish
      machine ??= inside().server(of)
      machine.catch(() => (machine = undefined))
      const given = await inside().given(of)
      const env = {
        ...scopedEnv(given),
        ...wish.env,
        ...runEnv(engine.open(it, 'functionEnv')),
        ...platformEnv({ of: { ...of, replica: it }, subnet: within, server: await machine, wish }),
        CYCLE_API_TOKEN: inside().token(it),
      }
      if (wish.mounts.some(({ path }) => isInside(path))) return { ...wish, env }
      const files = [
        ...(await metadata(of)),
        ...variableFiles(given),
        ...certificateFiles(await inside().certificates(of), wish.user),
      ]
      return { ...wish, env, inside: { files } }
    },
    async remove(replica, signal) {
      await sockets.remove(replica, signal)
    },
  }
}

/** True for what a workload has there itself, of before the place was taken: it keeps that. */
const isInside = (path: string): boolean => INSIDE.some((at) => path === at || path.startsWith(`${at}/`))

/** Variables that are to be in the environment; one that holds a NUL cannot be. Pure. */
const scopedEnv = (given: readonly GivenVariable[]): Record<string, string> =>
  Object.fromEntries(
    given.flatMap(({ variable: { name, spec }, value }) =>
      spec.access.env && !value.includes('\0') ? [[spec.access.env.key ?? name, value]] : [],
    ),
  )

/** Those of a function's run alone. */
const runEnv = (text: string | undefined): Record<string, string> =>
  text === undefined ? {} : (JSON.parse(text) as Record<string, string>)

/** What the platform says of a replica to its own container (contract section 1.5), its token apart. Pure. */
function platformEnv({
  of: { replica, workload, vpc },
  subnet: { spec: within },
  server,
  wish,
}: {
  readonly of: Pick<Instance, 'replica' | 'workload' | 'vpc'>
  readonly subnet: Subnet
  readonly server: Pick<Server, 'id' | 'hostname'>
  readonly wish: Pick<ContainerWish, 'cpuMillicores'>
}): Record<string, string> {
  const { deploymentVersion } = workload.spec
  return {
    CYCLE_INSTANCE_ID: objectId(replica.id),
    CYCLE_CONTAINER_ID: objectId(workload.id),
    CYCLE_CONTAINER_IDENTIFIER: slugOf(workload.name),
    CYCLE_ENVIRONMENT_ID: objectId(vpc.id),
    CYCLE_SERVER_ID: server.id,
    // The machine is where it is: its own location.
    CYCLE_LOCATION_ID: server.id,
    CYCLE_PROVIDER_VENDOR: 'arcus',
    CYCLE_PROVIDER_IDENTIFIER: 'arcus',
    CYCLE_PROVIDER_LOCATION: server.hostname,
    CYCLE_INSTANCE_IPV6_IP: address6Of(vpc.spec.range6, within.index6, replica.spec.address),
    CYCLE_INSTANCE_IPV6_CIDR: cidr6Of(vpc.spec.range6, within.index6),
    CYCLE_INSTANCE_IPV6_SUBNET: String(replica.spec.index + 1),
    // A container that ends is started again as it is, with the environment that it was made with.
    CYCLE_AUTO_START: 'no',
    CYCLE_FIRST_START: attemptOf(replica) === 1 ? 'yes' : 'no',
    CYCLE_COMPUTE_PROXY: API_URL,
    ...(deploymentVersion === undefined ? {} : { CYCLE_DEPLOYMENT_VERSION: deploymentVersion }),
    CYCLE_CPU_PERIOD: String(CPU_PERIOD_US),
    CYCLE_CPU_QUOTA: String((wish.cpuMillicores * CPU_PERIOD_US) / 1000),
    CYCLE_CPU_LIMITED: 'yes',
  }
}

const fileOf = (name: string, text: string | Buffer, more: Partial<InsideFile> = {}): InsideFile => ({
  name,
  content: Buffer.from(text as string).toString('base64'),
  mode: FILE_MODE,
  uid: 0,
  gid: 0,
  ...more,
})

/** Variables that are to be files. Pure. */
const variableFiles = (given: readonly GivenVariable[]): readonly InsideFile[] =>
  given.flatMap(({ variable: { name, spec }, value }) => {
    const { file } = spec.access
    if (!file) return []
    const { decode, path, permissions, uid, gid } = file
    const content = decode ? Buffer.from(value, 'base64') : value
    return fileOf(`variables/${name}`, content, {
      ...(permissions === undefined ? {} : { mode: Number.parseInt(permissions, 8) }),
      ...(uid === undefined ? {} : { uid }),
      ...(gid === undefined ? {} : { gid }),
      ...(path === undefined ? {} : { at: path }),
    })
  })

/** Certificates by the names that they are for; the keys are for the user alone that the container runs as. Pure. */
export function certificateFiles(
  certificates: readonly ServedCertificate[],
  user: string | undefined,
): readonly InsideFile[] {
  const uid = Number(/^(\d+)(?::|$)/.exec(user ?? '')?.[1] ?? 0)
  const files = certificates.flatMap(({ names, chain, key }) =>
    names.flatMap((name) => {
      const at = `tls/${name.toLowerCase().replace(/^\*/, '_')}`
      return [fileOf(`${at}.bundle`, chain), fileOf(`${at}.key`, key, { mode: KEY_MODE, uid })]
    }),
  )
  // Of two for one name the newer, which is the last.
  return [...new Map(files.map((it) => [it.name, it])).values()]
}
