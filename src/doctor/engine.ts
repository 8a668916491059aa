import { statfs } from 'node:fs/promises'
import type { DockerInfo } from '#drivers/docker/docker.ts'
import { ENGINE_MEND, lacksOf } from '#drivers/docker/missing.ts'
import { type Check, type Finding, limited, missing, ok, unseen } from './check.ts'
import { type Host, isDenied, isRoot } from './host.ts'

const PLUGIN_FOLDERS = ['/run/docker/plugins', '/etc/docker/plugins']
const GIB = 1024 ** 3
/** Images and containers need this much. */
const IMAGE_BYTES_MIN = 2 * GIB
const PING_MS_MAX = 5000

type Engine = { readonly info: DockerInfo } | { readonly why: string }

async function ask(socket: string): Promise<Engine> {
  // Loaded only now, since it takes longer than everything else.
  const { dockerApi } = await import('#drivers/docker/docker.ts')
  const api = dockerApi(socket)
  try {
    await api.ping(PING_MS_MAX)
    return { info: await api.info() }
  } catch (error) {
    const code = (error as { cause?: NodeJS.ErrnoException }).cause?.code
    return { why: code ?? (error instanceof Error ? error.message : String(error)) }
  } finally {
    api.close()
  }
}

/** It may be there and is for others to ask. */
const isHidden = (host: Host, { why }: { readonly why: string }): boolean =>
  ['EACCES', 'EPERM'].includes(why) && !isRoot(host)

function answers(host: Host, socket: string, engine: Engine): Finding {
  if ('info' in engine) return ok(`Docker ${engine.info.ServerVersion ?? ''} answers at ${socket}`)
  if (isHidden(host, engine)) return unseen('the container engine')
  if (!host.has('dockerd'))
    return missing(
      'no container engine is installed',
      'apt-get install -y docker.io (`up` does it by itself)',
    )
  return missing(
    `no container engine answers at ${socket} (${engine.why})`,
    host.exists('/run/systemd/system') ? 'systemctl start docker' : './arcus up starts one, or start dockerd',
  )
}

function abilities(info: DockerInfo): Finding {
  const [first, ...more] = lacksOf(info)
  if (!first) return ok('it bounds memory, CPU and processes, and has seccomp')
  return missing([first, ...more].map((it) => it.says).join('; '), first.mend)
}

function storage(info: DockerInfo): Finding {
  const driver = info.Driver ?? 'unknown'
  if (driver === 'vfs')
    return limited(
      'its storage driver vfs copies every image for every container',
      'use overlay2 in /etc/docker/daemon.json',
    )
  return ok(`its storage driver is ${driver}`)
}

async function space(info: DockerInfo): Promise<Finding> {
  const folder = info.DockerRootDir ?? '/var/lib/docker'
  const { bavail, bsize } = await statfs(folder)
  const free = bavail * bsize
  const seen = `${(free / GIB).toFixed(1)} GiB are free for images in ${folder}`
  return free < IMAGE_BYTES_MIN ? limited(seen, 'docker image prune -a, or a larger disk') : ok(seen)
}

function plugins(host: Host): Finding {
  try {
    const there = PLUGIN_FOLDERS.find((it) => host.exists(it))
    return ok(
      there ? `network plugins are found in ${there}` : 'the folder of network plugins is made by `up`',
    )
  } catch (error) {
    if (isDenied(error) && !isRoot(host)) return unseen('the folder of network plugins')
    throw error
  }
}

/** The container engine: whether it answers, what it can do, where it keeps images. */
export function engineChecks(host: Host, socket: string): readonly Check[] {
  let asked: Promise<Engine> | undefined
  const engine = (): Promise<Engine> => (asked ??= ask(socket))
  const withInfo = (look: (info: DockerInfo) => Finding | Promise<Finding>) => async (): Promise<Finding> => {
    const it = await engine()
    if ('info' in it) return await look(it.info)
    if (isHidden(host, it)) return unseen('the container engine')
    return {
      state: 'unknown',
      seen: 'cannot be looked at while no container engine answers',
      mend: ENGINE_MEND,
    }
  }
  const pods = ['pods'] as const
  return [
    {
      id: 'engine',
      features: pods,
      required: true,
      probe: async () => answers(host, socket, await engine()),
    },
    { id: 'engine-limits', features: pods, required: true, probe: withInfo(abilities) },
    { id: 'engine-storage', features: pods, required: false, probe: withInfo(storage) },
    { id: 'engine-space', features: pods, required: false, probe: withInfo(space) },
    { id: 'engine-plugins', features: pods, required: false, probe: () => plugins(host) },
  ]
}
