// Changes VPCs without end until it is killed; for the test of what is left of it.
import { linuxNetwork } from '#drivers/linux/linux.ts'
import { systemClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import { attachment, HOST, vip, vpcPlan } from './world.ts'

const [prefix = '', directory = ''] = process.argv.slice(2)
const signal = new AbortController().signal
const network = linuxNetwork({ prefix, directory, clock: systemClock, log: silentLog })
await network.applyHost(HOST, signal)
console.log('working')
// Far longer than anybody lets it live.
const ROUNDS_MAX = 10_000
let generation = Math.max(0, ...(await network.list(signal)).map((it) => it.generation ?? 0))
for (let round = 0; round < ROUNDS_MAX; round++) {
  const number = (round % 3) + 1
  const machines = [5, 6, 7].map((last) => attachment(number, last, { egress: `100.72.0.${number}` }))
  const [first] = machines
  const attachments = machines.slice(0, (round % 4) + 1)
  const vips = round % 2 ? [vip(number, 100, { backends: attachments.map((it) => it.id) })] : []
  const plan = vpcPlan(number, { generation: ++generation, attachments, vips })
  await network.apply(plan, signal)
  if (first && attachments.includes(first)) await network.createLink(first.id)
  if (round % 5 === 4) await network.remove(plan.vpc, signal)
}
