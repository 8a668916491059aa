import { isIPv4 } from 'node:net'
import { posix } from 'node:path'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import type { ContainerWish } from '#cloud/compute/compute.driver.ts'
import { isUuid } from '#lib/ids.ts'
import { INSIDE } from './instances.ts'

/** What a host grants at most. The operator may widen it; a wish cannot. */
export type Limits = {
  /** Capabilities that a wish may ask for beyond the short default list. */
  readonly capabilities: readonly string[]
  readonly cpuMillicoresMax: number
  readonly memoryMibMax: number
  readonly pidsMax: number
  readonly mountsMax: number
  /** Files of its replica's own, and all of their contents together. */
  readonly filesMax: number
  readonly fileBytesMax: number
  readonly envBytesMax: number
  readonly argumentBytesMax: number
  readonly stopGraceSecondsMax: number
}

export const DEFAULT_LIMITS: Limits = {
  capabilities: ['IPC_LOCK', 'MKNOD', 'NET_RAW', 'SETFCAP', 'SETPCAP', 'SYS_NICE'],
  cpuMillicoresMax: 256_000,
  memoryMibMax: 4_194_304,
  pidsMax: 65_536,
  mountsMax: 32,
  filesMax: 256,
  fileBytesMax: 4 * 1024 * 1024,
  envBytesMax: 1024 * 1024,
  argumentBytesMax: 128 * 1024,
  stopGraceSecondsMax: 3600,
}

/** Docker refuses less. */
const MEMORY_MIB_MIN = 6

const closed = { additionalProperties: false } as const
const Text = Type.String()
const Texts = Type.Array(Text)
const Whole = Type.Integer({ minimum: 0 })
const Account = Type.Integer({ minimum: 0, maximum: 65_535 })
const Port = Type.Integer({ minimum: 1, maximum: 65_535 })

/** The form of a wish; anything beyond it is refused, so that no option of a container can be slipped in. */
const Wish = Compile(
  Type.Object(
    {
      id: Text,
      tenant: Text,
      workload: Text,
      vpc: Text,
      subnet: Text,
      attempt: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
      name: Type.String({ minLength: 1, maxLength: 255 }),
      image: Text,
      registry: Type.Optional(
        Type.Object(
          {
            server: Type.String({ minLength: 1, maxLength: 512 }),
            username: Type.String({ maxLength: 256 }),
            password: Type.String({ maxLength: 64 * 1024 }),
          },
          closed,
        ),
      ),
      entrypoint: Type.Optional(Texts),
      command: Type.Optional(Texts),
      env: Type.Record(Type.String(), Text),
      user: Type.Optional(Text),
      workdir: Type.Optional(Text),
      hostname: Text,
      cpuMillicores: Whole,
      memoryMib: Whole,
      pidsMax: Whole,
      capabilities: Texts,
      mounts: Type.Array(
        Type.Object(
          { volume: Text, path: Text, readOnly: Type.Boolean(), disk: Type.Optional(Type.Boolean()) },
          closed,
        ),
      ),
      inside: Type.Optional(
        Type.Object(
          {
            files: Type.Array(
              Type.Object(
                {
                  name: Text,
                  content: Text,
                  mode: Type.Integer({ minimum: 0, maximum: 0o777 }),
                  uid: Account,
                  gid: Account,
                  at: Type.Optional(Text),
                },
                closed,
              ),
            ),
          },
          closed,
        ),
      ),
      health: Type.Optional(
        Type.Object(
          {
            check: Type.Union([
              Type.Object({ type: Type.Literal('tcp'), port: Port }, closed),
              Type.Object({ type: Type.Literal('http'), port: Port, path: Text }, closed),
              Type.Object({ type: Type.Literal('command'), command: Texts }, closed),
            ]),
            intervalSeconds: Type.Integer({ minimum: 1, maximum: 86_400 }),
            timeoutSeconds: Type.Integer({ minimum: 1, maximum: 86_400 }),
            failuresMax: Type.Integer({ minimum: 1, maximum: 1000 }),
            startSeconds: Type.Integer({ minimum: 0, maximum: 86_400 }),
          },
          closed,
        ),
      ),
      healing: Type.Boolean(),
      stopGraceSeconds: Whole,
      power: Type.Optional(Type.Enum(['paused', 'off'])),
      keep: Type.Optional(Type.Boolean()),
      dns: Type.Object(
        {
          search: Type.Array(Text, { maxItems: 6 }),
          ndots: Type.Integer({ minimum: 0, maximum: 15 }),
          nameservers: Type.Optional(Type.Array(Text, { maxItems: 16 })),
        },
        closed,
      ),
      names: Type.Optional(Type.Array(Text, { maxItems: 6 })),
    },
    closed,
  ),
)

const LABEL_FORM = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?'
/** A name that was cut to 63 characters may end in a hyphen. */
const HOSTNAME = /^[a-z0-9][a-z0-9-]{0,62}$/i
const DOMAIN = new RegExp(`^${LABEL_FORM}(?:\\.${LABEL_FORM})*\\.?$`, 'i')
const IMAGE = new RegExp(
  // host[:port]/ , path components, :tag, @digest
  `^(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::\\d{1,5})?/)?` +
    `[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*` +
    `(?::[\\w][\\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?$`,
  'i',
)
/** What Docker would take for the id of any local image, whoever it belongs to. */
const IMAGE_ID = /^(?:sha256:)?[0-9a-f]{12,64}$/i
const USER = /^[a-z0-9_.][a-z0-9_.-]*\$?(?::[a-z0-9_.][a-z0-9_.-]*\$?)?$/i
const CAPABILITY = /^[A-Z][A-Z_]{1,30}$/
/** One of three folders and a plain name in it, so that it leads nowhere else. */
const INSIDE_FILE = /^(?:metadata|tls|variables)\/[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}$/
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/
/** What is mounted at one, as it is usually the same place. */
const INSIDE_MOUNTS = [INSIDE, '/run/cycle']
/** Below these the container's view of the kernel and its own network files live. */
const FORBIDDEN_MOUNTS = [
  '/proc',
  '/sys',
  '/dev',
  '/etc/resolv.conf',
  '/etc/hosts',
  '/etc/hostname',
  '/sbin/docker-init',
]
const PATH_CHARS_MAX = 4096

/**
 * Pure: why the host agent does not run this wish, undefined when it does. The last gate before root: a privileged
 * container, a namespace of the host, a port or a path of the host has no words in a wish, and nothing else passes.
 */
export function refusal(wish: unknown, limits: Limits): string | undefined {
  if (!Wish.Check(wish)) return `the wish has a wrong form: ${formOf(wish)}`
  const it = wish as ContainerWish
  for (const field of ['id', 'tenant', 'workload', 'vpc', 'subnet'] as const) {
    if (!isUuid(it[field])) return `${field} must be a UUID`
  }
  return (
    refusalOfImage(it.image) ??
    refusalOfProcess(it, limits) ??
    refusalOfSizes(it, limits) ??
    refusalOfMounts(it, limits) ??
    refusalOfFiles(it, limits) ??
    refusalOfHealth(it) ??
    refusalOfDns(it)
  )
}

const formOf = (wish: unknown): string => {
  const [first] = Wish.Errors(wish)
  return first ? `${first.instancePath || 'it'} ${first.message}` : 'it is no wish'
}

/** Pure: why a text is no name of an image. */
export function refusalOfImage(image: string): string | undefined {
  if (image.length > 512 || !IMAGE.test(image)) return `'${image.slice(0, 100)}' is no name of an image`
  return IMAGE_ID.test(image) ? 'an image is named by its repository, not by its id' : undefined
}

const hasNul = (text: string): boolean => text.includes('\0')
const bytesOf = (texts: readonly string[]): number =>
  texts.reduce((sum, it) => sum + Buffer.byteLength(it) + 1, 0)

function refusalOfProcess(it: ContainerWish, limits: Limits): string | undefined {
  const words = [...(it.entrypoint ?? []), ...(it.command ?? [])]
  if (words.some(hasNul)) return 'entrypoint and command must not hold a NUL'
  if (bytesOf(words) > limits.argumentBytesMax)
    return `the command is longer than ${limits.argumentBytesMax} bytes`
  for (const [key, value] of Object.entries(it.env)) {
    if (!key || key.includes('=') || hasNul(key) || hasNul(value))
      return `'${key.slice(0, 60)}' is no variable of an environment`
  }
  const envBytes = bytesOf(Object.keys(it.env)) + bytesOf(Object.values(it.env))
  if (envBytes > limits.envBytesMax) return `the environment is larger than ${limits.envBytesMax} bytes`
  if (it.user !== undefined && !USER.test(it.user))
    return 'user must be a name or number, with a group after a colon'
  if (it.workdir !== undefined && !isPlainPath(it.workdir)) return 'workdir must be a plain absolute path'
  for (const capability of it.capabilities) {
    if (!CAPABILITY.test(capability) || !limits.capabilities.includes(capability)) {
      return `capability ${capability.slice(0, 32)} is not one of those a container may have: ${limits.capabilities.join(', ')}`
    }
  }
  return undefined
}

function refusalOfSizes(it: ContainerWish, limits: Limits): string | undefined {
  const sizes = [
    ['cpuMillicores', it.cpuMillicores, 10, limits.cpuMillicoresMax],
    ['memoryMib', it.memoryMib, MEMORY_MIB_MIN, limits.memoryMibMax],
    ['pidsMax', it.pidsMax, 1, limits.pidsMax],
    ['stopGraceSeconds', it.stopGraceSeconds, 0, limits.stopGraceSecondsMax],
  ] as const
  for (const [field, value, least, most] of sizes) {
    if (value < least || value > most) return `${field} must be between ${least} and ${most}`
  }
  return undefined
}

/** Absolute, with nothing to normalise, printable. */
const isPlainPath = (path: string): boolean =>
  path.startsWith('/') &&
  path.length <= PATH_CHARS_MAX &&
  posix.normalize(path) === path &&
  !/\p{Cc}/u.test(path)

function refusalOfMounts(it: ContainerWish, limits: Limits): string | undefined {
  if (it.mounts.length > limits.mountsMax) return `more than ${limits.mountsMax} mounts`
  const paths = new Set<string>()
  for (const { volume, path } of it.mounts) {
    if (!isUuid(volume)) return 'the volume of a mount must be a UUID'
    const why = refusalOfPath(path)
    if (why !== undefined) return why
    if (paths.has(path)) return `two mounts at ${path}`
    paths.add(path)
  }
  const own = it.inside ? [...paths].find((path) => isWithin(path, INSIDE_MOUNTS)) : undefined
  return own === undefined ? undefined : `${own} is the workload's own: nothing else is mounted there`
}

const isWithin = (path: string, folders: readonly string[]): boolean =>
  folders.some((at) => path === at || path.startsWith(`${at}/`))

function refusalOfPath(path: string): string | undefined {
  if (!isPlainPath(path) || path === '/' || path.endsWith('/'))
    return `'${path.slice(0, 100)}' is no path to mount at`
  return isWithin(path, FORBIDDEN_MOUNTS) ? `nothing is mounted at ${path}` : undefined
}

/** A wish names no place of the host: its files are its replica's own, and where they lie follows from its id. */
function refusalOfFiles(it: ContainerWish, limits: Limits): string | undefined {
  const files = it.inside?.files ?? []
  if (files.length > limits.filesMax) return `more than ${limits.filesMax} files`
  const bytes = files.reduce((sum, { content }) => sum + Math.ceil((content.length * 3) / 4), 0)
  if (bytes > limits.fileBytesMax) return `its files are larger than ${limits.fileBytesMax} bytes together`
  const taken = new Set<string>(it.mounts.map(({ path }) => path))
  for (const { name, content, at } of files) {
    if (!INSIDE_FILE.test(name)) return `'${name.slice(0, 200)}' is no name of a file`
    if (!BASE64.test(content)) return `the content of ${name} is not base64`
    for (const path of [name, ...(at === undefined ? [] : [at])]) {
      if (taken.has(path)) return `two things at ${path}`
      taken.add(path)
    }
    if (at === undefined) continue
    const why = isWithin(at, INSIDE_MOUNTS) ? `nothing is mounted at ${at}` : refusalOfPath(at)
    if (why !== undefined) return why
  }
  return undefined
}

function refusalOfHealth({ health }: ContainerWish): string | undefined {
  if (health?.check.type === 'http' && !/^\/[\x21-\x7e]{0,2047}$/.test(health.check.path)) {
    return 'the path of a health check begins with a slash and holds no spaces'
  }
  if (health?.check.type === 'command') {
    if (!health.check.command.length) return 'the command of a health check is empty'
    if (health.check.command.some(hasNul)) return 'the command of a health check must not hold a NUL'
  }
  return undefined
}

function refusalOfDns(it: ContainerWish): string | undefined {
  if (!HOSTNAME.test(it.hostname)) return 'hostname must be one label of letters, digits and hyphens'
  if (it.dns.search.some((domain) => domain.length > 253 || !DOMAIN.test(domain)))
    return 'a search domain is malformed'
  if (it.dns.nameservers?.some((address) => !isIPv4(address))) return 'a resolver is no IPv4 address'
  if (it.names?.some((name) => name.length > 253 || !DOMAIN.test(name))) return 'a name is malformed'
  return undefined
}
