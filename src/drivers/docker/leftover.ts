import { readFile } from 'node:fs/promises'

/** Where Docker keeps a container's control group, for both versions and both of its cgroup drivers. */
const FOLDERS = [
  (id: string) => `/sys/fs/cgroup/pids/docker/${id}`,
  (id: string) => `/sys/fs/cgroup/pids/system.slice/docker-${id}.scope`,
  (id: string) => `/sys/fs/cgroup/docker/${id}`,
  (id: string) => `/sys/fs/cgroup/system.slice/docker-${id}.scope`,
] as const

/** Kills whatever still runs in a container's control group. */
export async function endProcesses(runtimeId: string): Promise<void> {
  for (const folder of FOLDERS) {
    const text = await readFile(`${folder(runtimeId)}/cgroup.procs`, 'utf8').catch(() => '')
    for (const pid of text.split('\n').map(Number).filter(Boolean)) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // It ended meanwhile.
      }
    }
  }
}
