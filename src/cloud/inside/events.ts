import type { Engine } from '#engine/engine.ts'
import type { Everything } from '#engine/everything.ts'
import type { StoredRecord } from '#engine/store.ts'
import { certificate } from '#cloud/edge/certificate.kind.ts'
import { route } from '#cloud/edge/route.kind.ts'
import { tunnel } from '#cloud/edge/tunnel.kind.ts'
import type { EventBody } from './event.kind.ts'
import type { InsideEvent, Instance } from './inside.ts'
import type { Sight } from './sight.ts'
import type { createTail } from './tail.ts'
import { goodAttempts } from './token.ts'

/** Event records of these words are for workloads; others are for people. */
const WORDS: ReadonlySet<string> = new Set([
  'workload.state.changed',
  'workload.changed',
  'workload.replicas.changed',
  'vpc.services.changed',
  'vpc.deployments.changed',
  'vpc.addresses.changed',
  'vpc.variables.changed',
  'network.created',
  'network.changed',
  'domain.verified',
  'domain.changed',
  'domain.records.changed',
  'certificate.issued',
  'certificate.renewed',
])

type Concerned = { readonly vpcs: readonly string[]; readonly workloads: readonly string[] }

export function createEvents(
  engine: Engine,
  everything: Everything,
  sight: Sight,
  follow: ReturnType<typeof createTail>,
) {
  /** Of a domain or certificate: what the hostnames below it or with it lead to. */
  const ledToBy = async (record: StoredRecord): Promise<Concerned> => {
    const { subject = '', tenant, what } = record
    const query = { deleted: false }
    const [tunnels, routes] = await Promise.all([
      everything(tunnel, tenant, query),
      everything(route, tenant, query),
    ])
    const owner = what.startsWith('certificate.')
      ? (await engine.get(certificate, tenant, subject))?.owner
      : undefined
    const uses = ({ id, spec }: { id: string; spec: { under?: string; certificate?: string } }): boolean =>
      spec.under === subject || spec.certificate === subject || id === owner
    const leading = [
      ...tunnels.filter(uses).map((it) => ({ vpc: it.spec.vpc, workloads: [it.spec.workload] })),
      ...routes.filter(uses).map(({ spec }) => ({
        vpc: spec.vpc,
        workloads: spec.targets.map((one) => one.workload),
      })),
    ]
    return {
      vpcs: [...new Set(leading.map((it) => it.vpc))],
      workloads: [...new Set(leading.flatMap((it) => it.workloads))],
    }
  }

  return async function* events(
    of: Instance,
    how: { readonly after?: string },
    signal: AbortSignal,
  ): AsyncGenerator<InsideEvent> {
    const good = new Set(goodAttempts(of.replica))
    const see = async (): Promise<ReadonlySet<string>> => new Set([of.vpc.id, ...(await sight.joinedIds(of))])
    const isGood = async (): Promise<boolean> => {
      const now = await sight.instance(of.replica.id)
      return now !== undefined && goodAttempts(now.replica).some((it) => good.has(it))
    }
    const wants = ({ tenant, what }: StoredRecord): boolean => tenant === of.tenant.id && WORDS.has(what)
    let visible = await see()
    for await (const record of follow({ ...how, wants }, signal)) {
      if (!record) {
        if (!(await isGood())) return
        visible = await see()
        continue
      }
      const { what, subject = '', at, cursor } = record
      const body = record.body as EventBody
      const isOwn = body.workloads?.includes(of.workload.id) === true
      if (isOwn && body.of === of.replica.id && !(await isGood())) return
      // Seen with those that it had before, and with those that it has now.
      const before = visible
      if (what.startsWith('network.')) visible = await see()
      const { vpcs, workloads = [] } = body.vpcs ? { ...body, vpcs: body.vpcs } : await ledToBy(record)
      const shown = vpcs.filter((it) => before.has(it) || visible.has(it))
      if (shown.length === 0) continue
      yield {
        cursor,
        what,
        subject,
        at,
        vpcs: shown,
        workloads,
        ...('from' in body ? { from: body.from } : {}),
        ...('to' in body ? { to: body.to } : {}),
        ...(body.of === undefined ? {} : { of: body.of }),
        ...(body.message === undefined ? {} : { message: body.message }),
      }
    }
  }
}
