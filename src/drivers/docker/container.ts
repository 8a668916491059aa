import { createHash } from 'node:crypto'
import type { ContainerCreateOptions, EndpointSettings } from 'dockerode'
import { VPC_DNS_ADDRESS } from '#cloud/network/network.driver.ts'
import type { HeldAttachment } from './attach.ts'
import type { Instances } from './instances.ts'
import type { KeptWish } from './wishes.ts'

/**
 * Every container's capabilities: what images of servers that start as root and step down need (Debian's nginx, redis,
 * PostgreSQL, MariaDB and sshd ran with it; sshd gives no terminal without AUDIT_WRITE). Docker's own list has four more:
 * NET_RAW and MKNOD open attacks on the network and the kernel, SETFCAP and SETPCAP let a process prepare privileges for
 * later. A wish can ask for each of them.
 */
export const CAPABILITIES = [
  'AUDIT_WRITE',
  'CHOWN',
  'DAC_OVERRIDE',
  'FOWNER',
  'FSETID',
  'KILL',
  'NET_BIND_SERVICE',
  'SETGID',
  'SETUID',
  'SYS_CHROOT',
] as const

const LOG_FILES = 3
const LOG_FILE_MIB = 10
/**
 * The grace when someone other than the agent stops a container: a person, or Docker going down, which one tenant must not
 * hold up. Never 0: Docker 20.10 then takes one death for two and loses the container's root file system.
 */
const STOP_SECONDS = { least: 2, most: 30 } as const
const NS_PER_SECOND = 1_000_000_000

export const LABEL = {
  instance: 'arcus.instance',
  /** Of the data folder whose agent made it: another one leaves it alone. */
  owner: 'arcus.owner',
  id: 'arcus.id',
  tenant: 'arcus.tenant',
  workload: 'arcus.workload',
  attempt: 'arcus.attempt',
  vpc: 'arcus.vpc',
  subnet: 'arcus.subnet',
  /** Of everything in the container that only a new one can change. */
  recipe: 'arcus.recipe',
} as const

/**
 * An option that Docker's own resolver cannot read, and so it is not set up in the container (decision 0091): nobody asks it,
 * since the container's resolv.conf is the one we mount, and Docker up to 25 takes thirteen processes to set it up. Later ones
 * leave the option out.
 */
const NO_RESOLVER = 'ndots:vpc'

/** What the making of a container says of its network. */
export type Joining = {
  readonly endpoint: EndpointSettings
  /** `vpc`: it asks the VPC's own address for names. Else Docker answers, and asks these for what it does not know. */
  readonly resolver: 'vpc' | { readonly nameservers: readonly string[] }
  readonly ipv6: boolean
}

/** The option of an endpoint that tells the plugin which attachment it is. */
export const ATTACHMENT_OPTION = 'arcus.attachment'

/** Recognisable for a person, unique by the last digits of the id. */
export function containerName(
  instance: string,
  wish: { readonly name: string; readonly id: string },
): string {
  const slug = wish.name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, 40)
  return `${instance}-${slug.replace(/^-+|-+$/g, '') || 'container'}-${wish.id.slice(-12)}`
}

export const networkName = (instance: string, subnet: string): string => `${instance}-${subnet}`

/** Hash of what is fixed when a container is made; power, cpu and memory are not in it, they change while it is there. */
export function recipeOf(wish: KeptWish, attached: HeldAttachment): string {
  const {
    cpuMillicores: _cpu,
    memoryMib: _memory,
    healing: _healing,
    stopGraceSeconds: _grace,
    power: _power,
    keep: _keep,
    ...fixed
  } = wish
  const health = wish.health?.check.type === 'command' ? wish.health : undefined
  const { address, address6, mac, subnet } = attached.plan
  // Files are written while it runs; where they are mounted is fixed.
  const inside = wish.inside?.files.flatMap(({ name, at }) => (at === undefined ? [] : [name, at]))
  const parts = { ...fixed, health, attempt: 0, registry: 0, inside }
  const text = JSON.stringify([parts, address, address6, mac, subnet])
  return createHash('sha256').update(text).digest('hex').slice(0, 32)
}

export const limitsOf = (wish: KeptWish) => ({
  Memory: wish.memoryMib * 1024 * 1024,
  // Equal to Memory: no swap, so that one tenant's memory never becomes another's disk load.
  MemorySwap: wish.memoryMib * 1024 * 1024,
  NanoCpus: wish.cpuMillicores * 1_000_000,
})

export const resolvConf = (dns: KeptWish['dns']): string =>
  [
    `nameserver ${VPC_DNS_ADDRESS}`,
    ...(dns.search.length ? [`search ${dns.search.join(' ')}`] : []),
    `options ndots:${dns.ndots}`,
    '',
  ].join('\n')

export type Recipe = {
  readonly instance: string
  readonly owner: string
  readonly wish: KeptWish
  readonly attached: HeldAttachment
  readonly joining: Joining
  /** Host path of its resolv.conf. */
  readonly resolvConfPath: string
  /** Host path of a volume by its id. */
  readonly volumePath: (volume: string) => string
  /** What the container finds of its replica's own, if its wish says so. */
  readonly instances: Pick<Instances, 'mounts'>
  /** Docker has an init process to reap what the workload leaves behind. */
  readonly init: boolean
}

/** What Docker is asked to make. Everything a tenant can influence passed the agent's rules before. */
export function createOptions(recipe: Recipe): ContainerCreateOptions {
  const { wish, attached, joining, instance } = recipe
  const { resolver } = joining
  const network = networkName(instance, attached.subnet.id)
  return {
    Image: wish.image,
    Hostname: wish.hostname,
    Env: Object.entries(wish.env).map(([key, value]) => `${key}=${value}`),
    ...(wish.entrypoint ? { Entrypoint: [...wish.entrypoint] } : {}),
    ...(wish.command ? { Cmd: [...wish.command] } : {}),
    ...(wish.user === undefined ? {} : { User: wish.user }),
    ...(wish.workdir === undefined ? {} : { WorkingDir: wish.workdir }),
    ...healthOf(wish),
    StopTimeout: Math.min(Math.max(wish.stopGraceSeconds, STOP_SECONDS.least), STOP_SECONDS.most),
    Labels: {
      [LABEL.instance]: instance,
      [LABEL.owner]: recipe.owner,
      [LABEL.id]: wish.id,
      [LABEL.tenant]: wish.tenant,
      [LABEL.workload]: wish.workload,
      [LABEL.attempt]: String(wish.attempt),
      [LABEL.vpc]: wish.vpc,
      [LABEL.subnet]: wish.subnet,
      [LABEL.recipe]: recipeOf(wish, attached),
    },
    HostConfig: {
      ...limitsOf(wish),
      PidsLimit: wish.pidsMax,
      CapDrop: ['ALL'],
      CapAdd: [...new Set([...CAPABILITIES, ...wish.capabilities])],
      SecurityOpt: ['no-new-privileges'],
      Privileged: false,
      PublishAllPorts: false,
      // With version 1 of control groups Docker would show it the host's. (The client's types lack the field.)
      ...({ CgroupnsMode: 'private' } as object),
      // The agent starts what its plan wants; Docker's own policies give up while the network plugin is away.
      RestartPolicy: { Name: 'no' },
      LogConfig: {
        Type: 'json-file',
        Config: { 'max-size': `${LOG_FILE_MIB}m`, 'max-file': String(LOG_FILES) },
      },
      ...(recipe.init ? { Init: true } : {}),
      Sysctls: {
        // Docker switches IPv6 off in namespaces it makes unless told otherwise.
        'net.ipv6.conf.all.disable_ipv6': joining.ipv6 ? '0' : '1',
        'net.ipv6.conf.default.disable_ipv6': joining.ipv6 ? '0' : '1',
        // Lets `ping` work without NET_RAW.
        'net.ipv4.ping_group_range': '0 2147483647',
      },
      NetworkMode: network,
      ...(resolver === 'vpc'
        ? { DnsOptions: [NO_RESOLVER] }
        : {
            Dns: [...resolver.nameservers],
            DnsSearch: [...wish.dns.search],
            DnsOptions: [`ndots:${wish.dns.ndots}`],
          }),
      Mounts: [
        ...(resolver === 'vpc' ? [bind(recipe.resolvConfPath, '/etc/resolv.conf', true)] : []),
        ...wish.mounts.map((it) => bind(recipe.volumePath(it.volume), it.path, it.readOnly)),
        ...(wish.inside ? recipe.instances.mounts(wish.id, wish.inside.files) : []).map((it) =>
          bind(it.source, it.target, true),
        ),
      ],
    },
    NetworkingConfig: {
      EndpointsConfig: {
        [network]: joining.endpoint,
      },
    },
  }
}

const bind = (source: string, target: string, readOnly: boolean) => ({
  Type: 'bind' as const,
  Source: source,
  Target: target,
  ReadOnly: readOnly,
  BindOptions: { Propagation: 'rprivate' as const },
})

function healthOf({ health }: KeptWish): Pick<ContainerCreateOptions, 'Healthcheck'> {
  // An image's own check is switched off: only the wish says what healthy means.
  if (health?.check.type !== 'command') return { Healthcheck: { Test: ['NONE'] } }
  return {
    Healthcheck: {
      Test: ['CMD', ...health.check.command],
      Interval: health.intervalSeconds * NS_PER_SECOND,
      Timeout: health.timeoutSeconds * NS_PER_SECOND,
      Retries: health.failuresMax,
      StartPeriod: health.startSeconds * NS_PER_SECOND,
    },
  }
}
