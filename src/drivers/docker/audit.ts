import { readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Finding, Repair } from '#cloud/observe/finding.driver.ts'
import { isUuid } from '#lib/ids.ts'
import type { Links } from './attach.ts'
import { LABEL, networkName, resolvConf } from './container.ts'
import { INSIDE, type Instances } from './instances.ts'
import type { DockerApi } from './docker.ts'
import type { Networks } from './networks.ts'
import { hasLink, isOf } from './own-link.ts'
import type { Owner } from './owner.ts'
import type { Real } from './plan.ts'
import type { NetworkPlugin } from './plugin.ts'
import type { Steps } from './steps.ts'
import type { Wishes } from './wishes.ts'

/** A file that is written and moved into place is there within this time. */
const FILE_MS_MAX = 60_000
/** A line of a mount at or below `INSIDE` whose folder on the host is gone. */
const GONE_FOLDER = /\/\/deleted \S*\/run\/cycle(\/api)? /

export type AuditOptions = {
  readonly api: DockerApi
  readonly wishes: Wishes
  readonly networks: Networks
  readonly instances: Pick<Instances, 'list' | 'remove'>
  readonly plugin: Pick<NetworkPlugin, 'endpoints' | 'look'> | undefined
  readonly links: Links
  readonly owner: Owner
  readonly instance: string
  /** Folders: of wishes, of resolv.conf files, and the one that both and the volumes lie in. */
  readonly folders: { readonly wishes: string; readonly resolv: string; readonly all: string }
  readonly steps: Pick<Steps, 'release' | 'writeResolvConf'>
  /** Every id with a wish or a container. */
  readonly ids: () => readonly string[]
  readonly real: (id: string) => Real | undefined
  readonly now: () => number
}

type Part = (options: AuditOptions, signal: AbortSignal) => Promise<Repair[]>

const of = (id: string): Pick<Finding, 'of'> => ({ of: { kind: 'replica', id } })

/** Containers that carry our label and are not in our list: without an id, or nobody's by now. */
const strayContainers: Part = async ({ api, owner, instance, ids }) => {
  const all = await api.list([`${LABEL.instance}=${instance}`])
  // Asked after Docker, since a wish comes before its container.
  const known = new Set(ids())
  return all
    .filter((it) => owner.owns(it.Labels[LABEL.owner]) && !known.has(it.Labels[LABEL.id] ?? ''))
    .map((it) => ({
      finding: {
        what: 'orphan',
        thing: 'container',
        detail: `container ${it.Names[0]?.slice(1) ?? it.Id.slice(0, 12)} is of no replica`,
        since: it.Created * 1000,
        mend: 'driver',
      },
      fix: () => api.remove(it.Id),
    }))
}

/** Docker's networks of subnets that no plan has, and that no wish and no container needs. */
const strayNetworks: Part = async ({ api, networks, links, owner, instance, wishes, steps }) => {
  const subnets = await networks.list()
  if (!subnets.length) return []
  const all = await api.list([`${LABEL.instance}=${instance}`])
  const used = new Set([
    ...all.filter((it) => owner.owns(it.Labels[LABEL.owner])).map((it) => it.Labels[LABEL.subnet]),
    ...wishes.all().map((it) => it.wish.subnet),
  ])
  return subnets
    .filter((it) => !used.has(it) && !links.hasSubnet(it))
    .map((it) => {
      const isStuck = networks.isStuck(it)
      const detail = `network ${networkName(instance, it)} of a subnet that is gone`
      const why = ', in which Docker counts an endpoint that is gone too; it counts anew when it starts'
      return {
        finding: {
          what: 'orphan',
          thing: 'docker network',
          detail: isStuck ? detail + why : detail,
          mend: isStuck ? { command: 'systemctl restart docker' } : 'driver',
        },
        fix: () => steps.release(it),
      }
    })
}

/** Endpoints of the plugin whose attachment nobody uses. */
const strayEndpoints: Part = async ({ plugin, ids }) => {
  const endpoints = plugin?.endpoints
  const known = new Set(ids())
  return await Promise.resolve(
    (endpoints?.all() ?? [])
      .filter((it) => !known.has(it.attachment))
      .map(({ endpoint, attachment }) => ({
        finding: {
          what: 'orphan',
          thing: 'endpoint',
          detail: `endpoint ${endpoint.slice(0, 12)} of a container that is gone`,
          ...of(attachment),
          mend: 'driver',
        },
        fix: () => endpoints?.remove(endpoint) ?? Promise.resolve(),
      })),
  )
}

/** The containers' resolv.conf files: what each says, and those of nobody. */
const resolvFiles: Part = async ({ folders, wishes, ids, real, steps }) => {
  const found: Repair[] = []
  const known = new Set(ids())
  for (const name of await readdir(folders.resolv).catch(() => [])) {
    const path = join(folders.resolv, name)
    if (!isUuid(name) || known.has(name)) continue
    const finding: Finding = {
      what: 'orphan',
      thing: 'file',
      detail: `${path} of a container that is gone`,
      ...of(name),
      mend: 'driver',
    }
    found.push({ finding, fix: () => rm(path, { force: true }) })
  }
  for (const { wish, removing } of wishes.all()) {
    if (removing || real(wish.id)?.status !== 'running') continue
    const text = await readFile(join(folders.resolv, wish.id), 'utf8').catch(() => undefined)
    if (text === resolvConf(wish.dns)) continue
    const finding: Finding = {
      what: text === undefined ? 'missing' : 'drift',
      thing: 'file',
      detail: `resolv.conf of ${wish.name} ${text === undefined ? 'missing' : 'changed'}`,
      ...of(wish.id),
      mend: 'driver',
    }
    found.push({ finding, fix: () => steps.writeResolvConf(wish) })
  }
  return found
}

/** Folders of replicas' own sockets and files that neither a wish nor a container has; one without is there before its wish. */
const instanceFolders: Part = async ({ instances, ids, now }) => {
  const folders = await instances.list()
  const known = new Set(ids())
  return folders
    .filter((it) => !known.has(it.id) && now() - it.sinceMs > FILE_MS_MAX)
    .map(({ id, path, sinceMs }) => ({
      finding: {
        what: 'orphan',
        thing: 'file',
        detail: `${path} of a container that is gone`,
        ...of(id),
        since: sinceMs,
        mend: 'driver',
      },
      fix: () => instances.remove(id),
    }))
}

/** Running containers whose folder of the socket was removed under them: they go on seeing the one that is gone. */
const lostFolders: Part = async ({ wishes, real }) => {
  const found: Repair[] = []
  for (const { wish, removing } of wishes.all()) {
    const it = real(wish.id)
    if (removing || !wish.inside || it?.status !== 'running' || it.pid <= 0) continue
    const mounts = await readFile(`/proc/${it.pid}/mountinfo`, 'utf8').catch(() => '')
    if (!GONE_FOLDER.test(mounts)) continue
    found.push({
      finding: {
        what: 'drift',
        thing: 'mount',
        detail: `the container of ${wish.name} sees a folder at ${INSIDE} that was removed`,
        ...of(wish.id),
        mend: { command: `arcus restart ${wish.workload}` },
      },
    })
  }
  return found
}

/** Files of wishes that cannot be read, and what a process left that ended while it wrote one. */
const wishFiles: Part = async ({ folders, wishes, now }) => {
  const found: Repair[] = []
  for (const name of await readdir(folders.wishes)) {
    const path = join(folders.wishes, name)
    const since = (await stat(path).catch(() => undefined))?.mtimeMs
    if (since === undefined) continue
    const passing = name.endsWith('.json.next')
    if (passing && now() - since > FILE_MS_MAX) {
      const detail = `file ${path} was left over`
      found.push({
        finding: { what: 'orphan', thing: 'file', detail, since, mend: 'driver' },
        fix: () => rm(path, { force: true }),
      })
    }
    const id = name.replace(/\.json$/, '')
    if (passing || !isUuid(id) || wishes.get(id)) continue
    // It may have been withdrawn just now.
    if (!(await stat(path).catch(() => undefined))) continue
    const detail = `wish ${path} cannot be read`
    found.push({ finding: { what: 'drift', thing: 'file', detail, ...of(id), since, mend: 'owner' } })
  }
  return found
}

/** Running containers whose link somebody took away, or whose VPC's namespace went and took it along. */
const lostLinks: Part = async ({ links, wishes, real }) => {
  const found: Repair[] = []
  for (const { wish, removing } of wishes.all()) {
    const it = real(wish.id)
    if (removing || it?.status !== 'running' || it.pid <= 0 || !links.attachment(wish.id)) continue
    if (await hasLink(it)) continue
    const finding: Finding = {
      what: 'missing',
      thing: 'link',
      detail: `link of the running container ${wish.name} missing`,
      ...of(wish.id),
      mend: 'driver',
    }
    found.push({
      finding,
      async fix() {
        if (await isOf(it)) await links.plugIn(wish.id, it.pid)
      },
    })
  }
  return found
}

/** Mounts inside our folder: nothing of ours mounts there, so somebody else's it is to end. */
const strayMounts: Part = async ({ folders }) =>
  (await readFile('/proc/self/mountinfo', 'utf8'))
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path) => path.startsWith(`${folders.all}/`))
    .map((path) => ({
      finding: {
        what: 'orphan',
        thing: 'mount',
        detail: `mount at ${path}`,
        mend: { command: `umount ${path}` },
      },
    }))

const PARTS: readonly Part[] = [
  strayContainers,
  strayNetworks,
  strayEndpoints,
  resolvFiles,
  instanceFolders,
  lostFolders,
  wishFiles,
  lostLinks,
  strayMounts,
  async ({ plugin }) => [...((await plugin?.look()) ?? [])],
]

/** What the list of containers does not tell: what was left over of them, and what they lost. */
export const lookAround: Part = async (options, signal) =>
  (await Promise.all(PARTS.map((part) => part(options, signal)))).flat()
