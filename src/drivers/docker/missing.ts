import type { DockerApi, DockerInfo } from './docker.ts'

/** What this container engine lacks, with what mends it. */
export type EngineLack = { readonly says: string; readonly mend: string }

/** Pure: what an engine that answers lacks to run containers as Arcus promises; empty when nothing. */
export function lacksOf(info: DockerInfo): readonly EngineLack[] {
  const lacks: EngineLack[] = []
  const lack = (says: string, mend: string): void => void lacks.push({ says, mend })
  if (info.OSType !== 'linux') lack('Docker runs no Linux containers', 'switch it to Linux containers')
  if (!info.SecurityOptions?.some((option) => option.startsWith('name=seccomp')))
    lack('Docker has no seccomp', 'use a kernel and a Docker with CONFIG_SECCOMP')
  if (info.MemoryLimit === false) lack('the kernel has no memory cgroup', 'boot it with cgroup_enable=memory')
  if (info.CpuCfsQuota === false)
    lack('the kernel has no CPU quota', 'boot a kernel with CONFIG_CFS_BANDWIDTH')
  if (info.PidsLimit === false) lack('the kernel has no pids cgroup', 'boot a kernel with CONFIG_CGROUP_PIDS')
  return lacks
}

export const ENGINE_MEND = 'install docker.io and start dockerd'

/** Sentences naming what the engine lacks; empty when nothing. */
export async function missingInDocker(api: DockerApi): Promise<readonly string[]> {
  const info = await api.info().catch(() => undefined)
  if (!info) return [`no Docker answers at ${api.socketPath}: ${ENGINE_MEND}`]
  return lacksOf(info).map((it) => `${it.says}: ${it.mend}`)
}
