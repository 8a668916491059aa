import { isDeepStrictEqual } from 'node:util'
import type { Row } from './rows.ts'

/** Kinds that tenants make; what the platform makes for them follows from these. */
export const MADE = [
  'vpc',
  'subnet',
  'security-group',
  'route-table',
  'workload',
  'tunnel',
  'registry-credential',
  'volume',
  'snapshot',
] as const
export type Made = (typeof MADE)[number]
const isMade = (kind: string): kind is Made => (MADE as readonly string[]).includes(kind)

/** What was acknowledged of one resource. */
export type Thing = {
  readonly id: string
  readonly kind: Made
  readonly tenant: string
  readonly name: string
  /** What it stands in (of a snapshot its volume, of a tunnel its workload) or uses: it goes with these, or keeps them. */
  readonly vpc: string | undefined
  readonly uses: readonly string[]
  expect: unknown
  going: boolean
}

export type Tenant = {
  readonly id: string
  readonly name: string
  readonly token: string
  going: boolean
  quotas: Readonly<Record<string, number>>
  /** Requests about it that wait for an answer. */
  asking: number
}

/** The parts of a wish that callers set, as they must be found again. */
export function wishOf(row: Row): unknown {
  const { spec } = row
  // Given by the platform when first needed.
  if (row.kind === 'vpc') return { ...spec, natAddress: undefined }
  if (row.kind !== 'workload') return spec
  const { replicas, ...rest } = spec
  return rest.autoscaling.enabled ? rest : { ...rest, replicas }
}

export function usesOf(row: Row): string[] {
  if (row.kind === 'workload') return [row.spec.subnet, ...row.spec.securityGroups]
  return row.kind === 'route-table' ? row.spec.subnets : []
}

/** What tenants were told, and nothing else: an independent account of what must be there. */
export type Model = {
  readonly tenants: Map<string, Tenant>
  readonly things: Map<string, Thing>
  live(tenant: string, kind: Made): Thing[]
  /** Adds what is in the database, as it is there. */
  adopt(row: Row): Thing
  /** The deletion of a thing was acknowledged: what stands in it goes too. */
  goes(id: string): void
  tenantGoes(id: string): void
  /** Live things that keep this one. */
  users(id: string): Thing[]
  /** Rows of a tenant that nobody was told of. */
  unknown(tenant: string, rows: readonly Row[]): Row[]
  /** Where the database differs from what was acknowledged. */
  differences(rows: readonly Row[]): string[]
}

export function createModel(): Model {
  const tenants = new Map<string, Tenant>()
  const things = new Map<string, Thing>()
  const unknown = (tenant: string, rows: readonly Row[]): Row[] =>
    rows.filter((row) => row.tenant === tenant && isMade(row.kind) && !things.has(row.id))

  function differencesOf(it: Thing, row: Row | undefined): string[] {
    const name = `${it.kind} ${it.name} (${it.id})`
    if (it.going) return row && row.deletedAt === null ? [`${name} was to be deleted and is not`] : []
    if (!row) return [`${name} was acknowledged and is not there`]
    if (row.deletedAt !== null) return [`${name} is being deleted, which nobody asked for`]
    if (!isDeepStrictEqual(wishOf(row), it.expect))
      return [`${name} is ${JSON.stringify(wishOf(row))} and not ${JSON.stringify(it.expect)}`]
    return []
  }

  function goes(id: string): void {
    for (const it of things.values()) {
      if (it.id === id) it.going = true
      else if (it.vpc === id && !it.going) goes(it.id)
    }
  }

  return {
    tenants,
    things,
    unknown,
    live: (tenant, kind) =>
      [...things.values()].filter((it) => it.tenant === tenant && it.kind === kind && !it.going),
    adopt(row) {
      if (!isMade(row.kind)) throw new Error(`${row.kind} is not made by tenants`)
      const thing: Thing = {
        id: row.id,
        kind: row.kind,
        tenant: row.tenant,
        name: row.name,
        vpc: row.kind === 'vpc' ? undefined : (row.spec.workload ?? row.spec.vpc ?? row.spec.volume),
        uses: usesOf(row),
        expect: wishOf(row),
        going: row.deletedAt !== null || (tenants.get(row.tenant)?.going ?? true),
      }
      things.set(row.id, thing)
      return thing
    },
    goes,
    tenantGoes(id) {
      const it = tenants.get(id)
      if (it) it.going = true
      for (const thing of things.values()) if (thing.tenant === id) thing.going = true
    },
    users: (id) => [...things.values()].filter((it) => !it.going && it.uses.includes(id)),
    differences(rows) {
      const byId = new Map(rows.map((row) => [row.id, row]))
      const found: string[] = []
      const quiet = (tenant: string): boolean => tenants.get(tenant)?.asking === 0
      for (const it of things.values())
        if (quiet(it.tenant)) found.push(...differencesOf(it, byId.get(it.id)))
      for (const it of tenants.values()) {
        if (it.asking) continue
        for (const row of unknown(it.id, rows))
          found.push(`${row.kind} ${row.name} (${row.id}) is there, and nobody was told of it`)
        const row = byId.get(it.id)
        if (!it.going && (!row || row.deletedAt !== null)) found.push(`tenant ${it.name} is gone or going`)
        if (!it.going && row && !isDeepStrictEqual(row.spec.quotas, it.quotas))
          found.push(`tenant ${it.name} has quotas ${JSON.stringify(row.spec.quotas)}`)
        if (it.going && row && row.deletedAt === null)
          found.push(`tenant ${it.name} was to be deleted and is not`)
      }
      return found
    },
  }
}
