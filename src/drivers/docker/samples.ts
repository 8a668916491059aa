import { readFile } from 'node:fs/promises'
import type { Sample } from '#cloud/compute/compute.driver.ts'
import type { DockerApi } from './docker.ts'

/** Totals of one container since its start. */
export type Usage = {
  readonly cpuNs: number
  readonly memoryBytes: number
  readonly receivedBytes: number
  readonly sentBytes: number
}

const CGROUPS = '/sys/fs/cgroup'

/** Pure: the path of a process in each cgroup hierarchy; the unified one (version 2) under ''. */
export function cgroupPaths(text: string): ReadonlyMap<string, string> {
  const paths = new Map<string, string>()
  for (const line of text.split('\n')) {
    const [, controllers = '', ...path] = line.split(':')
    for (const controller of controllers.split(',')) if (path.length) paths.set(controller, path.join(':'))
  }
  return paths
}

/** Pure: a `name value` line's value. */
export const fieldOf = (text: string, name: string): number =>
  Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1] ?? 0)

/** Pure: bytes received and sent by all links but loopback, from /proc/PID/net/dev. */
export function trafficOf(text: string): { receivedBytes: number; sentBytes: number } {
  let receivedBytes = 0
  let sentBytes = 0
  for (const line of text.split('\n')) {
    const [name = '', numbers] = line.split(':')
    if (numbers === undefined || name.trim() === 'lo') continue
    const columns = numbers.trim().split(/\s+/).map(Number)
    receivedBytes += columns[0] ?? 0
    sentBytes += columns[8] ?? 0
  }
  return { receivedBytes, sentBytes }
}

const read = (path: string): Promise<string> => readFile(path, 'utf8')

/** From the kernel's own files, which costs tens of microseconds where Docker's stats cost milliseconds. */
export async function usageOf(pid: number): Promise<Usage> {
  const paths = cgroupPaths(await read(`/proc/${pid}/cgroup`))
  const traffic = trafficOf(await read(`/proc/${pid}/net/dev`))
  const accounting = paths.get('cpuacct')
  const memory = paths.get('memory')
  if (accounting !== undefined && memory !== undefined) {
    const stat = await read(`${CGROUPS}/memory${memory}/memory.stat`)
    const used = Number(await read(`${CGROUPS}/memory${memory}/memory.usage_in_bytes`))
    return {
      cpuNs: Number(await read(`${CGROUPS}/cpuacct${accounting}/cpuacct.usage`)),
      memoryBytes: Math.max(0, used - fieldOf(stat, 'total_inactive_file')),
      ...traffic,
    }
  }
  const unified = `${CGROUPS}${paths.get('') ?? ''}`
  const used = Number(await read(`${unified}/memory.current`))
  return {
    cpuNs: fieldOf(await read(`${unified}/cpu.stat`), 'usage_usec') * 1000,
    memoryBytes: Math.max(0, used - fieldOf(await read(`${unified}/memory.stat`), 'inactive_file')),
    ...traffic,
  }
}

async function usageByDocker(api: DockerApi, container: string): Promise<Usage> {
  const { cpu_stats, memory_stats, networks } = await api.stats(container)
  const { total_inactive_file, inactive_file } = (memory_stats.stats ?? {}) as Record<
    string,
    number | undefined
  >
  const links = Object.values(networks ?? {})
  return {
    cpuNs: cpu_stats.cpu_usage.total_usage,
    memoryBytes: Math.max(0, (memory_stats.usage ?? 0) - (total_inactive_file ?? inactive_file ?? 0)),
    receivedBytes: links.reduce((sum, it) => sum + it.rx_bytes, 0),
    sentBytes: links.reduce((sum, it) => sum + it.tx_bytes, 0),
  }
}

export type Running = {
  readonly id: string
  readonly runtimeId: string
  readonly pid: number
  readonly startedAtMs: number
}

/**
 * Samples of running containers; one that ends meanwhile is left out. Its CPU is averaged since the sample before, by a clock
 * that nobody sets (`steady`, in milliseconds), or since its start.
 */
export function sampler(api: DockerApi, now: () => number, steady: () => number) {
  let before = new Map<string, { readonly at: number; readonly cpuNs: number }>()
  return async (running: readonly Running[]): Promise<readonly Sample[]> => {
    const after: typeof before = new Map()
    const samples = await Promise.all(
      running.map(async (it): Promise<Sample | undefined> => {
        const key = `${it.runtimeId} ${it.startedAtMs}`
        const usage = await usageOf(it.pid).catch(() =>
          usageByDocker(api, it.runtimeId).catch(() => undefined),
        )
        if (!usage) return undefined
        const at = now()
        const { cpuNs, ...rest } = usage
        const last = before.get(key)
        const mark = { at: steady(), cpuNs }
        after.set(key, mark)
        const elapsedMs = last ? mark.at - last.at : at - it.startedAtMs
        const spentMs = Math.max(0, cpuNs - (last?.cpuNs ?? 0)) / 1_000_000
        return {
          id: it.id,
          at,
          // A start that is still to come: the clock was set back since.
          cpuMillicores: elapsedMs > 0 ? Math.round((spentMs / elapsedMs) * 1000) : 0,
          cpuNs,
          ...rest,
        }
      }),
    )
    before = after
    return samples.filter((it) => it !== undefined)
  }
}
