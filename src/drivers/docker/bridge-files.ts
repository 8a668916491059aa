import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { HostPlan, VpcPlan } from '#cloud/network/network.driver.ts'
import { readIfThere, writeAtomically } from '#lib/files.ts'
import { isUuid } from '#lib/ids.ts'
import { messageOf } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'

const FORMAT = 1
const HOST_FILE = 'host.json'

/** The last plans, on disk, so that containers start with their network while the cloud is away. */
export type BridgeFiles = {
  host(): HostPlan | undefined
  get(vpc: string): VpcPlan | undefined
  all(): readonly VpcPlan[]
  putHost(plan: HostPlan): Promise<void>
  put(plan: VpcPlan): Promise<void>
  remove(vpc: string): Promise<void>
  removeAll(): Promise<void>
}

/** Reads what is in `directory`, which is made when absent; a file that cannot be read is left out and logged. */
export async function openBridgeFiles(directory: string, log: Log): Promise<BridgeFiles> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const plans = new Map<string, VpcPlan>()
  let host: HostPlan | undefined
  const fileOf = (vpc: string): string => join(directory, `${vpc}.json`)
  for (const name of await readdir(directory)) {
    if (!name.endsWith('.json')) continue
    try {
      const text = (await readIfThere(join(directory, name))) ?? ''
      const { format, plan } = JSON.parse(text) as { format: number; plan: VpcPlan | HostPlan }
      if (format !== FORMAT) throw new Error(`format ${format} is not known`)
      if (name === HOST_FILE) host = plan as HostPlan
      else if (isUuid(name.slice(0, -'.json'.length))) plans.set((plan as VpcPlan).vpc, plan as VpcPlan)
    } catch (error) {
      log.warn('kept network plan cannot be read', { file: name, error: messageOf(error) })
    }
  }
  const write = (path: string, plan: VpcPlan | HostPlan): Promise<void> =>
    writeAtomically(path, JSON.stringify({ format: FORMAT, plan }))
  return {
    host: () => host,
    get: (vpc) => plans.get(vpc),
    all: () => [...plans.values()],
    async putHost(plan) {
      await write(join(directory, HOST_FILE), plan)
      host = plan
    },
    async put(plan) {
      // Known first: the network that is made for it is looked up by whoever starts a container.
      plans.set(plan.vpc, plan)
      await write(fileOf(plan.vpc), plan)
    },
    async remove(vpc) {
      await rm(fileOf(vpc), { force: true })
      plans.delete(vpc)
    },
    async removeAll() {
      for (const it of plans.keys()) await rm(fileOf(it), { force: true })
      await rm(join(directory, HOST_FILE), { force: true })
      plans.clear()
      host = undefined
    },
  }
}
