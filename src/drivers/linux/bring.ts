import { messageOf } from '#lib/errors.ts'
import { cut, cutLines } from './cut.ts'
import { flowsToCut, mayRevoke, readFlows } from './flows.ts'
import type { Held } from './held.ts'
import { hostMtu } from './host-side.ts'
import type { Setting } from './look.ts'
import { makePeeringLinks } from './peerings.ts'
import { changeRules, converge, grow } from './router.ts'
import { type Growth, growthOf, shapeOf } from './shape.ts'
import { HOST_LANE, type NetworkState, PEERINGS_LANE, settingFor, sharedOf, UNENDING } from './state.ts'

/** Repairs of one VPC that are kept to be told; the oldest is forgotten. */
const REPAIRED_MAX = 32

/** Looks at the host's part and puts it right; with `once`, only if nobody has since the start. */
export const keepHost = (state: NetworkState, signal: AbortSignal, once = false): Promise<void> =>
  state.lane(HOST_LANE, async () => {
    if (!state.hostPlan || (once && state.hostKept)) return
    state.mtu = hostMtu()
    await state.host.keep(state.hostPlan, sharedOf(state), signal)
    state.hostKept = true
  })

/** Ends the flows that the plan does not allow any more; with `allowed` those there are were allowed by the plan swept last. */
async function sweep(
  { names, directory, log }: NetworkState,
  it: Held,
  setting: Setting,
  allowed: boolean,
): Promise<void> {
  if (!allowed || !it.swept || mayRevoke(it.swept, it.plan)) {
    const namespace = names.namespace(it.plan.vpc)
    const flows = await readFlows(namespace, setting.signal)
    const gone = flowsToCut(flows, it.swept, it.plan, setting.host, allowed)
    await cut(namespace, cutLines(flows, gone), directory, setting.signal)
    if (gone.length)
      log.info('flows ended that are not allowed any more', { vpc: it.plan.vpc, flows: gone.length })
  }
  it.swept = it.plan
  it.unswept = false
}

/**
 * Makes the links of a router's peerings that are missing. The routers at their other ends are brought up after this
 * one, since each waits for its own turn alone.
 */
async function bringPeerings(state: NetworkState, it: Held, setting: Setting): Promise<boolean> {
  const { lane, held, log } = state
  if (!it.plan.peerings?.length) return false
  const made = await lane(PEERINGS_LANE, () => makePeeringLinks(setting, it.plan))
  for (const vpc of made) {
    const bringOther = async (): Promise<void> => {
      const other = held.get(vpc)
      if (other) await bring(state, other, UNENDING)
    }
    void lane(vpc, bringOther).catch((error: unknown) =>
      log.warn('the other side of a peering was not brought up', { vpc, error: messageOf(error) }),
    )
  }
  return made.length > 0
}

/** Makes a router what the held plan says, and keeps the plan when it is. */
export async function bring(state: NetworkState, it: Held, signal: AbortSignal): Promise<void> {
  const { names, lane, host, files } = state
  await keepHost(state, signal, true)
  const setting = settingFor(state, signal)
  const shape = shapeOf(it.plan, setting.host, names.uplink(it.plan.index))
  const allowed = !it.unswept
  const was = it.loaded?.text
  it.unswept = true
  // What was changed by somebody else may have let more, as may what another version of this program had loaded.
  let strange = it.suspect
  const growth = it.shape && !it.suspect ? growthOf(it.shape, shape) : undefined
  if (!growth || !(await changeOnly(it, setting, growth))) {
    it.shape = undefined
    strange = (await bringWhole(state, it, setting)) || strange
  }
  it.shape = shape
  // Ports that lead to another machine, or to none, are the host's too.
  await lane(HOST_LANE, () => host.keepShared(sharedOf(state), signal))
  strange ||= !it.brought && was !== undefined && was !== it.loaded?.text
  await sweep(state, it, setting, allowed && !strange)
  it.brought = true
  it.suspect = false
  const { plan } = it
  const { text = '', listing = '' } = it.loaded ?? {}
  const kept = { plan, loaded: { text, listing } }
  const saved = JSON.stringify(kept)
  if (it.saved === saved) return
  await files.saveVpc(kept)
  it.saved = saved
}

/** Brings a router to a plan that has other rules than the one in force and more of the rest; false when that cannot be. */
async function changeOnly(it: Held, setting: Setting, growth: Growth): Promise<boolean> {
  const { inForce } = it
  if (!inForce) return false
  // Not known until it is answered: a call that is broken off may be done all the same.
  it.inForce = undefined
  const loaded = await changeRules(setting, it.plan, it.loaded)
  it.loaded = loaded ?? it.loaded
  // Rules before anything new can pass.
  const has = loaded !== undefined && (await grow(setting, it.plan.vpc, growth))
  if (has) it.inForce = it.plan
  else if (!loaded) it.inForce = inForce
  return has
}

/**
 * Looks at a router and makes it what the held plan says, whatever was there before; true when it had other rules than this
 * process knew of.
 */
async function bringWhole(state: NetworkState, it: Held, setting: Setting): Promise<boolean> {
  // Drift that a look has shown is told already.
  const before = it.suspect ? undefined : it.inForce
  it.inForce = undefined
  const { loaded, made, strange, drift } = await converge(setting, it.plan, it.loaded, {
    thorough: it.suspect || !it.brought,
    before,
  })
  it.loaded = loaded
  if (await bringPeerings(state, it, setting))
    await converge(setting, it.plan, it.loaded, { thorough: false, before: undefined })
  it.inForce = it.plan
  it.repaired = [...it.repaired, ...drift].slice(-REPAIRED_MAX)
  // A router that has just been made has no flows yet.
  if (made) it.swept = it.plan
  return strange
}
