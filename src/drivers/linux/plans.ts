import { chmodSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { HostPlan, VpcPlan } from '#cloud/network/network.driver.ts'
import type { Loaded } from './look.ts'

/** A VPC's plan, and what was loaded when it was last in force. */
export type Kept = { readonly plan: VpcPlan; readonly loaded?: Loaded }

/** Where the last plans are kept, so that containers start with their network while the cloud is away. */
export type PlanFiles = {
  readonly host: HostPlan | undefined
  readonly vpcs: readonly Kept[]
  /** Files that could not be read; whoever applies a plan again replaces them. */
  readonly broken: readonly string[]
  saveHost(plan: HostPlan): Promise<void>
  saveVpc(kept: Kept): Promise<void>
  removeVpc(vpc: string): Promise<void>
  removeAll(): Promise<void>
}

const VPC_FILE = /^vpc-([0-9a-f-]{36})\.json$/
const OURS = /^(vpc-[0-9a-f-]{36}|host)\.json(\.next)?$|^cut-/
const FORMAT = 1

/** True for what is there for a moment only: a file on its way to its place, a list of flows that a command reads. */
export const isPassing = (name: string): boolean => /\.json\.next$|^cut-/.test(name)

/** The VPC whose plan a file of this name holds. */
export const vpcOfFile = (name: string): string | undefined => VPC_FILE.exec(name)?.[1]

/** Writes a file so that after a crash it is the old one or the new one, readable by us alone. */
async function replaceFile(path: string, text: string): Promise<void> {
  const next = `${path}.next`
  const file = await open(next, 'w', 0o600)
  try {
    await file.writeFile(text)
    await file.datasync()
  } finally {
    await file.close()
  }
  await rename(next, path)
}

/** Reads what is kept in `directory`, which is made when absent. */
export function openPlans(directory: string): PlanFiles {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  chmodSync(directory, 0o700)
  const broken: string[] = []
  const read = <T>(name: string): T[] => {
    try {
      const { format, ...kept } = JSON.parse(readFileSync(join(directory, name), 'utf8')) as {
        format?: number
      }
      if (format === FORMAT) return [kept as T]
    } catch {
      // Named below, like a file of another format.
    }
    broken.push(name)
    return []
  }
  const names = readdirSync(directory)
  const vpcs = names.filter((it) => VPC_FILE.test(it)).flatMap((it) => read<Kept>(it))
  const [host] = names.includes('host.json') ? read<{ plan: HostPlan }>('host.json') : []
  const text = (kept: object): string => JSON.stringify({ format: FORMAT, ...kept })
  const fileOf = (vpc: string): string => join(directory, `vpc-${vpc.toLowerCase()}.json`)
  return {
    host: host?.plan,
    vpcs,
    broken,
    saveHost: (plan) => replaceFile(join(directory, 'host.json'), text({ plan })),
    saveVpc: (kept) => replaceFile(fileOf(kept.plan.vpc), text(kept)),
    removeVpc: (vpc) => rm(fileOf(vpc), { force: true }),
    async removeAll() {
      for (const name of readdirSync(directory))
        if (OURS.test(name)) await rm(join(directory, name), { force: true })
    },
  }
}
