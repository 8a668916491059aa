import { X509Certificate } from 'node:crypto'
import { createSecureContext, type SecureContext } from 'node:tls'
import type { Log } from '#lib/log.ts'
import type { FrontCertificate, FrontRoute } from '#cloud/edge/front.driver.ts'
import { createTurns, type Turns } from './balance.ts'
import { type FrontStore, type HeldFront, holdingOf } from './store.ts'

/** A route as it is served, with what outlives a change of its table. */
export type ServedRoute = {
  readonly route: FrontRoute
  readonly tenant: string
  readonly turns: Turns
}

/** Everything under one hostname. */
type Site = {
  readonly hostname: string
  /** Longest prefix first. */
  readonly routes: readonly ServedRoute[]
}

/** One state of everything the front door serves; it never changes, a new one takes its place. */
export type FrontTable = {
  readonly routes: ReadonlyMap<string, ServedRoute>
  /** By UDP port. */
  readonly datagrams: ReadonlyMap<number, ServedRoute>
  /** By TCP port. */
  readonly balancers: ReadonlyMap<number, ServedRoute>
  /** Why routes are left out, each a sentence that was said. */
  readonly refused: ReadonlySet<string>
  /** Whether anything is served under the name. */
  has(hostname: string): boolean
  /** The route of a request; its path without the query. */
  find(hostname: string, path: string): ServedRoute | undefined
  /** The route that takes the TLS connection itself. */
  passthrough(hostname: string): ServedRoute | undefined
  /** What TLS for the name is answered with; undefined when no certificate of its routes is valid for it. */
  secure(hostname: string): SecureContext | undefined
  /** What a certificate authority wants to read under the name. */
  challenge(hostname: string, token: string): string | undefined
  /** The routes of the name have paths below each other, so that a path's dots would matter. */
  isDivided(hostname: string): boolean
}

/** Certificates made ready; kept over tables, since making one ready takes a millisecond. */
export type Contexts = Map<
  string,
  { readonly of: object; readonly x509: X509Certificate; readonly context: SecureContext }
>

type Candidate = { readonly served: ServedRoute; readonly vpc: string; readonly since: number }

/** Whoever held it first comes first; a tie cannot be, since numbers are given once. */
const earlier = (a: Candidate, b: Candidate): number =>
  a.since - b.since || (a.served.route.id < b.served.route.id ? -1 : 1)

function candidatesOf(fronts: Iterable<HeldFront>, before: FrontTable | undefined): Map<string, Candidate[]> {
  const held = new Map<string, Candidate[]>()
  for (const { front, since } of fronts) {
    for (const route of front.routes) {
      const holding = holdingOf(route)
      const turns = before?.routes.get(route.id)?.turns ?? createTurns()
      const served = { route, tenant: front.tenant, turns }
      const candidate = { served, vpc: front.vpc, since: since[holding] ?? 0 }
      const others = held.get(holding)
      if (others) others.push(candidate)
      else held.set(holding, [candidate])
    }
  }
  return held
}

type Refuse = (fields: { route: string; vpc: string; tenant: string; holding: string; why: string }) => void

/** Keeps what one tenant may serve beside each other, and tells what is left out. */
function settle(holding: string, candidates: Candidate[], refuse: Refuse): ServedRoute[] {
  const kept: ServedRoute[] = []
  const [first, ...others] = candidates.sort(earlier)
  if (!first) return kept
  kept.push(first.served)
  for (const { served, vpc } of others) {
    const { route, tenant } = served
    const isForeign = tenant !== first.served.tenant
    const isTaken = route.port !== undefined || kept.some((it) => it.route.pathPrefix === route.pathPrefix)
    if (isForeign || isTaken) {
      const why = isForeign ? 'another tenant holds it' : 'another route has it'
      refuse({ route: route.id, vpc, tenant, holding, why })
    } else kept.push(served)
  }
  return kept
}

const wildcardOf = (hostname: string): string => hostname.replace(/^[^.]+/, '*')

const fits = (path: string, prefix: string): boolean =>
  prefix === '/' ||
  (path.startsWith(prefix) && (path.length === prefix.length || path[prefix.length] === '/'))

function contextOf(certificate: FrontCertificate, contexts: Contexts) {
  const { id, issued } = certificate
  if (!issued) return undefined
  const ready = contexts.get(id)
  if (ready?.of === issued) return ready
  const made = {
    of: issued,
    x509: new X509Certificate(issued.chain),
    context: createSecureContext({ cert: issued.chain, key: issued.key, minVersion: 'TLSv1.2' }),
  }
  contexts.set(id, made)
  return made
}

/**
 * Puts the fronts together. A hostname or UDP port belongs to the tenant whose front named it first; routes of others for
 * it are left out and said.
 */
export function buildTable(options: {
  readonly store: Pick<FrontStore, 'fronts' | 'certificates'>
  readonly contexts: Contexts
  readonly before?: FrontTable | undefined
  readonly log: Log
}): FrontTable {
  const { store, contexts, before, log } = options
  const routes = new Map<string, ServedRoute>()
  const datagrams = new Map<number, ServedRoute>()
  const balancers = new Map<number, ServedRoute>()
  const sites = new Map<string, Site>()
  const refused = new Set<string>()
  const refuse: Refuse = (fields) => {
    const said = Object.values(fields).join(' ')
    refused.add(said)
    if (!before?.refused.has(said)) log.warn('route is not served', fields)
  }
  for (const [holding, candidates] of candidatesOf(store.fronts.values(), before)) {
    const kept = settle(holding, candidates, refuse)
    for (const it of kept) {
      routes.set(it.route.id, it)
      const { port, carry } = it.route
      if (port !== undefined) (carry === 'tcp' ? balancers : datagrams).set(port, it)
    }
    if (kept[0]?.route.port !== undefined) continue
    const longest = kept.toSorted((a, b) => b.route.pathPrefix.length - a.route.pathPrefix.length)
    sites.set(holding, { hostname: holding, routes: longest })
  }
  const certificates = new Map(store.certificates)
  const challenges = new Map<string, string>()
  for (const it of certificates.values())
    for (const { hostname, token, answer } of it.challenges) challenges.set(`${hostname} ${token}`, answer)
  for (const id of contexts.keys()) if (!certificates.has(id)) contexts.delete(id)

  const siteOf = (hostname: string): Site | undefined =>
    sites.get(hostname) ?? sites.get(wildcardOf(hostname))

  return {
    routes,
    datagrams,
    balancers,
    refused,
    has: (hostname) => siteOf(hostname) !== undefined,
    find: (hostname, path) => siteOf(hostname)?.routes.find((it) => fits(path, it.route.pathPrefix)),
    passthrough: (hostname) => siteOf(hostname)?.routes.find((it) => it.route.carry === 'passthrough'),
    secure(hostname) {
      for (const { route } of siteOf(hostname)?.routes ?? []) {
        const certificate = route.certificate && certificates.get(route.certificate)
        const ready = certificate ? contextOf(certificate, contexts) : undefined
        if (ready?.x509.checkHost(hostname) !== undefined) return ready?.context
      }
      return undefined
    },
    challenge: (hostname, token) => challenges.get(`${hostname} ${token}`),
    isDivided: (hostname) => siteOf(hostname)?.routes.some((it) => it.route.pathPrefix !== '/') ?? false,
  }
}
