import type { Lease, Mutation } from '#engine/store.ts'

type Open = { readonly since: number; readonly of: unknown }
type Was = ReadonlySet<string>

const SAME = JSON.stringify

/**
 * An account of its own of what was committed: who holds which lease, and what is in use. It reads the commits, not the
 * store, and knows nothing of how they came about.
 */
export type Ledger = {
  leased(lease: Lease): void
  dropped(lease: Lease): void
  /** A new process holds no lease of the one before. */
  restarted(): void
  /** Keys of a commit's leases that were taken over by someone else before it. */
  before(mutations: readonly Mutation[]): Was
  committed(mutations: readonly Mutation[], lost: Was): void
  /** What is wrong so far. */
  readonly wrongs: readonly string[]
  /** Milliseconds of use so far, by tenant and what is used, those still open up to `now`. */
  used(now: number): ReadonlyMap<string, number>
  readonly commits: number
}

export function createLedger(): Ledger {
  const tokens = new Map<string, number>()
  const running = new Map<string, Open & { tenant: string }>()
  const held = new Map<string, { since: number; tenant: string }>()
  const totals = new Map<string, number>()
  const wrongs: string[] = []
  let commits = 0
  const add = (key: string, ms: number): void => void totals.set(key, (totals.get(key) ?? 0) + ms)
  const replicaKey = (tenant: string, of: unknown): string => `${tenant} replica ${SAME(of)}`
  const addressKey = (tenant: string): string => `${tenant} address`
  type RecordOf = Extract<Mutation, { do: 'record' }>['record']

  function openReplica(it: RecordOf): void {
    const id = it.subject ?? ''
    if (running.has(id)) wrongs.push(`replica ${id} is metered twice`)
    running.set(id, { since: it.at, of: it.body, tenant: it.tenant })
  }
  function closeReplica(it: RecordOf): void {
    const id = it.subject ?? ''
    const open = running.get(id)
    if (!open) return void wrongs.push(`replica ${id}: an interval is closed that is not open`)
    running.delete(id)
    add(replicaKey(open.tenant, open.of), it.at - open.since)
  }

  /** Every usage record of a commit, and nothing else, moves the account; then it must be as the commit left the world. */
  function meter(mutations: readonly Mutation[]): void {
    for (const m of mutations) {
      if (m.do !== 'record' || m.record.stream !== 'usage') continue
      const { what, subject = '', at, tenant } = m.record
      if (what === 'replica.opened') openReplica(m.record)
      else if (what === 'replica.closed') closeReplica(m.record)
      else if (what === 'address.opened') {
        if (held.has(subject)) wrongs.push(`address of ${subject} is metered twice`)
        held.set(subject, { since: at, tenant })
      } else if (what === 'address.closed') {
        const open = held.get(subject)
        if (!open) wrongs.push(`address of ${subject}: an interval is closed that is not open`)
        else add(addressKey(open.tenant), at - open.since)
        held.delete(subject)
      } else wrongs.push(`${what} is no usage that is known`)
    }
    // Of a resource that a commit makes and changes, the last counts.
    const last = new Map<string, Mutation>()
    for (const m of mutations) if (m.do === 'create' || m.do === 'spec') last.set(m.resource.id, m)
    for (const m of [...last.values(), ...mutations.filter((it) => it.do === 'status' || it.do === 'remove')])
      check(m)
  }

  function check(m: Mutation): void {
    if (m.do === 'create' || m.do === 'spec') {
      const { id, kind } = m.resource
      const spec = m.resource.spec as { externalAddress?: string; natAddress?: string }
      const address = kind === 'workload' ? spec.externalAddress : spec.natAddress
      if ((address !== undefined) !== held.has(id) && (kind === 'workload' || kind === 'vpc'))
        wrongs.push(`${kind} ${id}: its external address is ${address ?? 'none'}, its usage says otherwise`)
    }
    if (m.do === 'status' && m.lease.key.startsWith('replica/')) {
      const { phase } = m.status as { phase: string }
      if ((phase === 'running') !== running.has(m.id))
        wrongs.push(`replica ${m.id} is ${phase} and ${running.has(m.id) ? 'metered' : 'not metered'}`)
    }
    if (m.do === 'remove' && (running.has(m.id) || held.has(m.id)))
      wrongs.push(`${m.lease.key} is gone and still metered`)
  }

  return {
    leased: ({ key, token }) => void tokens.set(key, token),
    dropped({ key, token }) {
      if (tokens.get(key) === token) tokens.delete(key)
    },
    restarted: () => tokens.clear(),
    before(mutations) {
      const lost = new Set<string>()
      for (const m of mutations)
        if (
          (m.do === 'status' || m.do === 'remove' || m.do === 'finish') &&
          tokens.get(m.lease.key) !== m.lease.token
        )
          lost.add(m.lease.key)
      return lost
    },
    committed(mutations, lost) {
      commits++
      for (const key of lost) wrongs.push(`a commit under a lost lease on ${key} was accepted`)
      for (const m of mutations) if (m.do === 'finish') tokens.delete(m.lease.key)
      meter(mutations)
    },
    wrongs,
    used(now) {
      const all = new Map(totals)
      const plus = (key: string, ms: number): void => void all.set(key, (all.get(key) ?? 0) + ms)
      for (const it of running.values()) plus(replicaKey(it.tenant, it.of), now - it.since)
      for (const it of held.values()) plus(addressKey(it.tenant), now - it.since)
      return all
    },
    get commits() {
      return commits
    },
  }
}
