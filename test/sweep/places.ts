import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

const read = (path: string): Buffer => {
  try {
    return readFileSync(path)
  } catch {
    // Gone meanwhile, or somebody else's.
    return Buffer.alloc(0)
  }
}

/** Every file below a folder, with its content. */
export const filesOf = (folder: string): { readonly path: string; readonly bytes: Buffer }[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((it) => join(folder, it))
    .filter((it) => statSync(it, { throwIfNoEntry: false })?.isFile() ?? false)
    .map((path) => ({ path, bytes: read(path) }))

/** Every process of the machine, with what it shows of itself. */
export const processes = (): {
  readonly pid: number
  readonly command: Buffer
  readonly environment: Buffer
  /** The cgroups it is in, by which the container of a process is known. */
  readonly cgroups: string
}[] =>
  readdirSync('/proc')
    .filter((it) => /^\d+$/.test(it))
    .map((pid) => ({
      pid: Number(pid),
      command: read(`/proc/${pid}/cmdline`),
      environment: read(`/proc/${pid}/environ`),
      cgroups: read(`/proc/${pid}/cgroup`).toString('utf8'),
    }))
