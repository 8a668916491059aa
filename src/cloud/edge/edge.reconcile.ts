import { isCloudError } from '#lib/errors.ts'
import { again, gone, type Look, type Outcome, type Reconcile, settled } from '#engine/reconcile.ts'
import { PLATFORM } from '#engine/resource.ts'
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
const REMOTE_WAIT_MS = 2000
const REMOTE_RETRY_SECONDS = 15

type Status = Tunnel['status']

/** Keeps the front of a VPC like its tunnels and routes, and wakes those that are new or gone in it. */
export const createFrontage = (fronts: Fronts) => ({
  async apply(
    world: Omit<FrontWorld, 'tunnels' | 'routes' | 'certificates'>,
    { draft, signal }: Look,
  ): Promise<void> {
    const { id, tenant } = world.vpc
    const query = { tenant, terms: [`vpc:${id}`] }
    const [tunnels, routes] = await Promise.all([draft.list(tunnel, query), draft.list(route, query)])
    const parts = [...tunnels, ...routes]
    const certificates = parts.length ? await draft.list(certificate, { tenant, deleted: false }) : []
    const moved = new Set(await fronts.apply(planFront({ ...world, tunnels, routes, certificates }), signal))
    for (const it of tunnels) if (moved.has(it.id)) draft.wake(`tunnel/${it.id}`)
    for (const it of routes) if (moved.has(it.id)) draft.wake(`route/${it.id}`)
  },
  remove: async (vpcId: string, signal: AbortSignal): Promise<void> => await fronts.remove(vpcId, signal),
})

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
  const serves = fronts.serves(vpcId, it.id)
  if (it.deletedAt !== undefined) {
    if (serves === false) return gone
    draft.wake(`${vpc.name}/${vpcId}`)
    return again(EDGE_WAIT_MS, 'waiting for the edge to let go of it')
  }
  if (!serves) {
    draft.wake(`${vpc.name}/${vpcId}`)
    return again(EDGE_WAIT_MS, 'waiting for the edge', waiting('waiting for the edge'))
  }
  return await whenCertified(it, look, traffic)
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
  { draft }: Look,
  traffic: Traffic,
): Promise<Outcome<Status>> {
  if (!endsTls(it)) return active(it, traffic)
  const named = 'certificate' in it.spec ? it.spec.certificate : undefined
  const found =
    named === undefined
      ? (await draft.list(certificate, { tenant: it.tenant, terms: [`owner:${it.id}`], deleted: false }))[0]
      : await draft.get(certificate, it.tenant, named)
  if (!found) {
    await ensureCertificate(draft, it)
    if ('vpc' in it.spec) draft.wake(`${vpc.name}/${it.spec.vpc}`)
    return again(
      CERTIFICATE_WAIT_MS,
      'its certificate is being made',
      waiting('its certificate is being made'),
    )
  }
  const { state, message, notAfter } = found.status
  // One that was issued stays in force while its renewal fails.
  if (state === 'issued' || (notAfter !== undefined && notAfter > draft.now)) return active(it, traffic)
  const why = `waiting for certificate ${found.name}: ${message ?? 'it is being issued'}`
  return again(CERTIFICATE_WAIT_MS, why, state === 'error' ? { state: 'error', message: why } : waiting(why))
}

/** Keeps the platform's own front like its service tunnels. */
export const reconcileServiceTunnel =
  (fronts: Fronts, traffic: Traffic, settings: Settings): Reconcile<ServiceTunnel> =>
  async (it, look) => {
    const { draft, signal } = look
    const tunnels = await draft.list(serviceTunnel, { tenant: PLATFORM })
    const certificates = await draft.list(certificate, { tenant: PLATFORM, deleted: false })
    await fronts.apply(planPlatformFront(tunnels, certificates, settings.api.address), signal)
    return it.deletedAt === undefined ? await whenCertified(it, look, traffic) : gone
  }
