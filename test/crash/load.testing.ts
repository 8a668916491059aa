import { setTimeout as sleep } from 'node:timers/promises'
import type { Pod, Subnet, TestTenant, Vpc } from '../e2e/client.testing.ts'

/** Pods of one worker that live at the same time. */
const ALIVE_MAX = 4
const PAUSE_MS = 250
/** Every so many pods, a whole VPC is made and deleted beside them. */
const VPC_EVERY = 5

/** What the API answered to one worker, and what it never got to answer. */
export type Ledger = {
  readonly tenant: TestTenant
  readonly subnet: Subnet
  /** Acknowledged and not asked to go. */
  readonly made: Map<string, Pod>
  /** Ids of pods and VPCs whose deletion was acknowledged. */
  readonly deleted: Set<string>
  /** Asked to go without an answer: may be there or not. */
  readonly maybeDeleted: Set<string>
  /** Names of pods and VPCs asked for without an answer. */
  readonly maybeMade: Set<string>
  /** Answers that no crash explains. */
  readonly wrong: string[]
}

/** Undefined when no answer came (the process died meanwhile) or the answer says that it cannot serve now. */
async function answered<T>(ledger: Ledger, ask: () => Promise<T>): Promise<{ value: T } | undefined> {
  try {
    return { value: await ask() }
  } catch (error) {
    const { message, name } = error as Error
    const crashed = name === 'TypeError' || name === 'TimeoutError' || /answered 50[03]/.test(message)
    if (!crashed) ledger.wrong.push(message)
    return undefined
  }
}

async function makePod(ledger: Ledger, name: string, image: string): Promise<void> {
  const made = await answered(ledger, () =>
    ledger.tenant.pod(ledger.subnet, name, { container_image: image, auto_healing: true }),
  )
  if (made) ledger.made.set(made.value.id, made.value)
  else ledger.maybeMade.add(name)
}

async function deletePod(ledger: Ledger, id: string): Promise<void> {
  ledger.made.delete(id)
  const gone = await answered(ledger, () => ledger.tenant.call('DELETE', `/pods/${id}`, 204))
  if (gone) ledger.deleted.add(id)
  else ledger.maybeDeleted.add(id)
}

async function passingVpc(ledger: Ledger, name: string): Promise<void> {
  const made = await answered(ledger, () => ledger.tenant.vpc(name))
  if (!made) return void ledger.maybeMade.add(name)
  const vpc: Vpc = made.value
  await answered(ledger, () => ledger.tenant.subnet(vpc, '10.100.2.0/24'))
  const gone = await answered(ledger, () => ledger.tenant.call('DELETE', `/vpcs/${vpc.id}`, 204))
  if (gone) ledger.deleted.add(vpc.id)
  else ledger.maybeDeleted.add(vpc.id)
}

/** Creates and deletes until the signal aborts, then leaves what is there. */
export async function workUntil(ledger: Ledger, signal: AbortSignal): Promise<void> {
  for (let count = 0; !signal.aborted; count++) {
    const [oldest] = ledger.made.keys()
    if (oldest && ledger.made.size >= ALIVE_MAX) await deletePod(ledger, oldest)
    else await makePod(ledger, `p-${count}`, count % 2 ? 'idle:latest' : 'arcus-probe:latest')
    if (count % VPC_EVERY === 0) await passingVpc(ledger, `v-${count}`)
    await sleep(PAUSE_MS)
  }
}
