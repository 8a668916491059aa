import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { EXIT, Failure, usage } from './failure.ts'
import type { World } from './world.ts'

export const DEFAULT_URL = 'http://127.0.0.1:8080'

/** Where the cloud is and what opens it. */
export type Connection = {
  readonly url: string
  readonly token?: string
  /** Id or name of the tenant to act in, for administrators. */
  readonly tenant?: string
  /** File with the certificate of the authority that signs the server's. */
  readonly ca?: string
}

/** What the command line says. */
export type Flags = {
  readonly url?: string
  readonly token?: string
  readonly tenant?: string
  readonly ca?: string
}

export const configFile = ({ env, home }: World): string =>
  join(env['XDG_CONFIG_HOME'] || join(home, '.config'), 'arcus', 'config.json')

/** The text of a file, undefined when it is not there or not for us to read. */
async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (['ENOENT', 'EACCES', 'ENOTDIR', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? ''))
      return undefined
    throw error
  }
}

/** The named texts of a JSON file; others are left out. */
async function readFields<F extends string>(
  path: string,
  fields: readonly F[],
): Promise<Partial<Record<F, string>>> {
  const text = await readIfThere(path)
  if (text === undefined) return {}
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    throw new Failure(EXIT.refused, `${path} is not JSON`, `remove it and log in again with: arcus login`)
  }
  const found: Partial<Record<F, string>> = {}
  for (const field of fields) {
    const value = (parsed as Record<string, unknown> | null)?.[field]
    if (typeof value === 'string' && value !== '') found[field] = value
  }
  return found
}

export const readConfig = async (world: World): Promise<Partial<Connection>> =>
  await readFields(configFile(world), ['url', 'token', 'tenant', 'ca'])

/** The server's address without a final slash; refused when it is no http or https URL. */
export function checkedUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !/^https?:$/.test(url.protocol)) throw usage(`${text} is no http:// or https:// URL`)
  if (url.username || url.password) throw usage('a URL must not carry a password; use --token')
  return url.href.replace(/\/+$/, '')
}

const isLocal = (url: string): boolean =>
  /^(127\.\d+\.\d+\.\d+|localhost|\[::1\])$/.test(new URL(url).hostname)

/**
 * Flags count before the environment (ARCUS_URL, ARCUS_TOKEN, ARCUS_TENANT, ARCUS_CA), that before what `login` kept, that
 * before the administrator's file of this machine. A token that was kept for one server is never sent to another.
 */
export async function resolveConnection(flags: Flags, world: World): Promise<Connection> {
  const { env } = world
  const kept = await readConfig(world)
  const url = checkedUrl(flags.url || env['ARCUS_URL'] || kept.url || DEFAULT_URL)
  const here = kept.url !== undefined && checkedUrl(kept.url) === url
  const tenant = flags.tenant || env['ARCUS_TENANT'] || (here ? kept.tenant : undefined)
  const ca = flags.ca || env['ARCUS_CA'] || (here ? kept.ca : undefined)
  let token = flags.token || env['ARCUS_TOKEN'] || (here ? kept.token : undefined)
  if (token === undefined && isLocal(url)) token = (await readFields(world.adminFile, ['token'])).token
  return { url, ...(token ? { token } : {}), ...(tenant ? { tenant } : {}), ...(ca ? { ca } : {}) }
}

/** Keeps a connection for the commands to come, readable by its owner alone. */
export async function writeConfig(world: World, connection: Partial<Connection>): Promise<string> {
  const path = configFile(world)
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const fresh = `${path}.new`
  await writeFile(fresh, `${JSON.stringify(connection, null, 2)}\n`, { mode: 0o600 })
  // The mode above counts only for a file that was not there.
  await chmod(fresh, 0o600)
  await rename(fresh, path)
  return path
}
