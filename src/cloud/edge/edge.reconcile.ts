import { isCloudError } from '#lib/errors.ts'
import { again, gone, type Look, type Outcome, type Reconcile, settled } from '#engine/reconcile.ts'
import { type Key, PLATFORM, type Resource } from '#engine/resource.ts'
import type { Settings } from '#cloud/context.ts'
import { vpc } from '#cloud/network/vpc.kind.ts'
import { certificate } from './certificate.kind.ts'
import { ensureCertificate } from './edge.verbs.ts'
import { endsTls, type FrontWorld, planFront, planPlatformFront } from './front.ts'
import type { Fronts } from './fronts.ts'
import type { RemoteTunnels } from './remote.ts'
import { route, type Route } from './route.kind.ts'
import { serviceTunnel, type ServiceTunnel } from './service-tunnel.kind.ts'
import { totalOf, type Traffic } from './traffic.ts'
import { tunnel, type Tunnel } from './tunnel.kind.ts'

/** Its VPC's reconciler wakes it when the edge took the table; this is for when that was missed. */
const EDGE_WAIT_MS = 1000
const CERTIFICATE_WAIT_MS = 2000
const CERTIFICATE_WAIT_MS_MAX = 60_000
const REMOTE_WAIT_MS = 2000
const REMOTE_RETRY_SECONDS = 15

type Status = Tunnel['status']

/** Keeps the front of a VPC like its tunnels, routes and load balancers, and wakes those that are new or gone in it. */
export const createFrontage = (fronts: Fronts) => ({
  async apply(
    world: Omit<FrontWorld, 'tunnels' | 'routes' | 'certificates'>,
    { draft, signal }: Look,
  ): Promise<void> {
    const { id, tenant } = world.vpc
    const query = { tenant, terms: [`vpc:${id}`] }
    const [tunnels, routes] = await Promise.all([draft.list(tunnel, query), draft.list(route, query)])
    const parts = [...tunnels, ...routes, ...world.balancers]
    const certificates =
      tunnels.length + routes.length ? await draft.list(certificate, { tenant, deleted: false }) : []
    const front = planFront({ ...world, tunnels, routes, certificates })
    const moved = new Set(await fronts.apply(front, generationsOf(parts), signal))
    for (const it of parts)
      if (moved.has(it.id) || it.observed !== it.generation) draft.wake(`${it.kind}/${it.id}` as Key)
  },
  remove: async (vpcId: string, signal: AbortSignal): Promise<void> => await fronts.remove(vpcId, signal),
})

const generationsOf = (all: readonly Resource[]): ReadonlyMap<string, number> =>
  new Map(all.map((it) => [it.id, it.generation]))

/** A tunnel is there when the front in force has it, with a certificate where it needs one. */
export const reconcileTunnel =
  (fronts: Fronts, traffic: Traffic, remote: RemoteTunnels): Reconcile<Tunnel> =>
  async (it, look) => {
    const outcome = await partOfFront(it, it.spec.vpc, { fronts, traffic }, look)
    if (outcome.do === 'gone') await remote.drop(it, look)
    if (outcome.do !== 'settled' || !(await remote.carries(it, look))) return outcome
    try {
      const why = await remote.keep(it, look)
      if (why === undefined) return settled({ ...outcome.status, backend: 'cloudflare' })
      return again(REMOTE_WAIT_MS, why, { ...outcome.status, ...waiting(why), backend: 'cloudflare' })
    } catch (error) {
      if (!isCloudError(error)) throw error
      const { retryAfterSeconds = REMOTE_RETRY_SECONDS } = error.details
      const status = { ...outcome.status, state: 'error' as const, message: error.message }
      return again(retryAfterSeconds * 1000, error.message, { ...status, backend: 'cloudflare' })
    }
  }

export const reconcileRoute =
  (fronts: Fronts, traffic: Traffic): Reconcile<Route> =>
  async (it, look) =>
    await partOfFront(it, it.spec.vpc, { fronts, traffic }, look)

async function partOfFront(
  it: Tunnel | Route,
  vpcId: string,
  { fronts, traffic }: { fronts: Fronts; traffic: Traffic },
  look: Look,
): Promise<Outcome<Status>> {
  const { draft } = look
  const isGoing = it.deletedAt !== undefined
  const serves = fronts.serves(vpcId, it.id)
  if (isGoing && serves === false) return gone
  if (!isGoing && fronts.holds(vpcId, it.id, it.generation)) return await whenCertified(it, look, traffic)
  draft.wake(`${vpc.name}/${vpcId}`)
  const reason = `waits for ${await frontOf(it, vpcId, look)}`
  // What is in force in another form goes on.
  if (isGoing || serves) return again(EDGE_WAIT_MS, reason)
  return again(EDGE_WAIT_MS, reason, waiting('waits for the edge'))
}

/** What it waits for in words, with what that waits for itself. */
async function frontOf(it: Tunnel | Route, vpcId: string, { draft, why }: Look): Promise<string> {
  const inVpc = await draft.get(vpc, it.tenant, vpcId)
  const cause = inVpc && (await why(inVpc))
  const end = it.deletedAt === undefined ? '' : ' to let go of it'
  return `the edge and VPC ${inVpc?.name ?? '(gone)'}${end}${cause ? `: ${cause}` : ''}`
}

/** In force, with what went through it. */
function active(it: { readonly id: string }, traffic: Traffic): Outcome<Status> {
  const counted = traffic.of(it.id)
  return settled({ state: 'active', ...(counted ? { traffic: totalOf(counted) } : {}) })
}

const waiting = (message: string): Status => ({ state: 'pending', message })

/** Active once its certificate is issued; the certificate wakes it. */
async function whenCertified(
  it: Tunnel | Route | ServiceTunnel,
  look: Look,
  traffic: Traffic,
): Promise<Outcome<Status>> {
  const { draft } = look
  if (!endsTls(it)) return active(it, traffic)
  const named = 'certificate' in it.spec ? it.spec.certificate : undefined
  const found =
    named === undefined
      ? (await draft.list(certificate, { tenant: it.tenant, terms: [`owner:${it.id}`], deleted: false }))[0]
      : await draft.get(certificate, it.tenant, named)
  if (!found) {
    await ensureCertificate(draft, it)
    if ('vpc' in it.spec) draft.wake(`${vpc.name}/${it.spec.vpc}`)
    const why = 'waits for its certificate to be made'
    return again(CERTIFICATE_WAIT_MS, why, waiting(why))
  }
  const { state, message, nextTryAt = 0 } = found.status
  // One that was issued stays in force while its renewal fails.
  if (state === 'issued') return active(it, traffic)
  const reason = message ?? (await look.why(found)) ?? 'it is being issued'
  const why = `waits for certificate ${found.name}: ${reason}`
  // It wakes what it was made for; another one is looked at, though not as often once it waits for long.
  const next = Math.min(Math.max(CERTIFICATE_WAIT_MS, nextTryAt - draft.now), CERTIFICATE_WAIT_MS_MAX)
  return again(next, why, state === 'error' ? { state: 'error', message: why } : waiting(why))
}

/** Keeps the platform's own front like its service tunnels. */
export const reconcileServiceTunnel =
  (fronts: Fronts, traffic: Traffic, settings: Settings): Reconcile<ServiceTunnel> =>
  async (it, look) => {
    const { draft, signal } = look
    const tunnels = await draft.list(serviceTunnel, { tenant: PLATFORM })
    const certificates = await draft.list(certificate, { tenant: PLATFORM, deleted: false })
    const front = planPlatformFront(tunnels, certificates, settings.api.address)
    await fronts.apply(front, generationsOf(tunnels), signal)
    return it.deletedAt === undefined ? await whenCertified(it, look, traffic) : gone
  }
