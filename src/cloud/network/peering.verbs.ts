import { cidr, overlaps } from '#lib/cidr.ts'
import { CloudError } from '#lib/errors.ts'
import type { Draft } from '#engine/draft.ts'
import { actionOf, authorise, ownTenant } from '#cloud/access.ts'
import { needPromise, type VerbContext } from '#cloud/context.ts'
import { toChange } from '#cloud/found.ts'
import type { Named } from './gateway.verbs.ts'
import { liveVpc } from './network.verbs.ts'
import { otherOf, peering, type Peering } from './peering.kind.ts'
import { addAutomatic, removeAutomatic } from './routes.verbs.ts'
import { subnet } from './subnet.kind.ts'
import { vpc, type Vpc } from './vpc.kind.ts'

/** What is behind the router of a VPC: its range, or those of its subnets where it has none. */
export async function rangesOf(draft: Draft, tenant: string, id: string): Promise<string[]> {
  const it = await draft.get(vpc, tenant, id)
  if (it?.spec.cidr !== undefined) return [it.spec.cidr]
  return (await draft.list(subnet, { tenant, terms: [`vpc:${id}`] })).map((one) => one.spec.cidr)
}

const live = async (draft: Draft, it: Pick<Vpc, 'tenant' | 'id'>): Promise<Peering[]> => {
  const all = await draft.list(peering, { tenant: it.tenant, terms: [`vpc:${it.id}`], deleted: false })
  return all.filter((one) => one.spec.decision !== 'rejected')
}

/**
 * Asks for a peering of two VPCs of the tenant. Refused `invalid`: with itself, and where ranges overlap; `conflict` (rule
 * in_use): when the two have one that is pending or accepted.
 */
export async function createPeering(
  context: VerbContext,
  input: Named & { readonly vpc: string; readonly peer: string },
): Promise<Peering> {
  authorise(context.caller, 'write', actionOf('peering', 'create'), { kind: 'peering', name: input.name })
  needPromise(context, 'peering', 'peerings')
  const { draft, caller } = context
  const tenant = ownTenant(caller)
  const asking = await liveVpc(context, input.vpc)
  const asked = await liveVpc(context, input.peer)
  if (asking.id === asked.id)
    throw new CloudError('invalid', 'a VPC cannot be peered with itself', { field: 'peer' })
  for (const it of [asking, asked]) await draft.guard(`subnets:${it.id}`, it.id)
  if ((await live(draft, asking)).some((it) => otherOf(it, asking.id) === asked.id))
    throw new CloudError('conflict', 'The two VPCs have a peering already', { rule: 'in_use' })
  const theirs = await rangesOf(draft, tenant, asked.id)
  for (const one of await rangesOf(draft, tenant, asking.id))
    for (const other of theirs)
      if (overlaps(cidr(one), cidr(other)))
        throw new CloudError('invalid', `the ranges ${one} and ${other} of the VPCs overlap`, {
          field: 'peer',
        })
  const { name, labels } = input
  const spec = { vpc: asking.id, peer: asked.id, decision: 'pending' as const }
  return draft.create(peering, { tenant, name, ...(labels ? { labels } : {}), spec })
}

/** Accepts a peering and writes routes to it into both main tables, or rejects it. Refused `conflict` (rule wrong_state) when that was decided. */
export async function decidePeering(
  context: VerbContext,
  id: string,
  decision: 'accepted' | 'rejected',
): Promise<Peering> {
  const { draft } = context
  const it = await toChange(context, peering, id, 'Peering')
  if (it.spec.decision !== 'pending')
    throw new CloudError('conflict', `The peering was ${it.spec.decision} already`, { rule: 'wrong_state' })
  if (decision === 'accepted')
    for (const side of [it.spec.vpc, it.spec.peer]) {
      const inVpc = await liveVpc(context, side)
      for (const range of await rangesOf(draft, it.tenant, otherOf(it, side)))
        await addAutomatic(context, inVpc, { cidr: range, target: 'peering', to: it.id })
    }
  return draft.edit(peering, it, { spec: { ...it.spec, decision } })
}

/** Takes the routes that its acceptance made out of both main tables. */
export async function unroutePeering(context: VerbContext, it: Peering): Promise<void> {
  for (const side of [it.spec.vpc, it.spec.peer]) await removeAutomatic(context, side, it.id)
}

/** Refuses a subnet of a VPC that overlaps what is behind a peering of it, and lets the other side know of a new one. */
export async function checkPeered(context: VerbContext, it: Vpc, range: string): Promise<void> {
  const { draft } = context
  for (const one of await live(draft, it)) {
    const other = otherOf(one, it.id)
    await draft.guard(`subnets:${other}`, other)
    for (const theirs of await rangesOf(draft, it.tenant, other))
      if (overlaps(cidr(theirs), cidr(range)))
        throw new CloudError(
          'conflict',
          `${range} overlaps ${theirs} of a VPC that this one is peered with`,
          {
            field: 'cidr',
            rule: 'in_use',
          },
        )
    draft.wake(`vpc/${other}`)
  }
}

/** Those of a VPC that failed do not keep it from going. */
export async function removeFailed(context: VerbContext, it: Vpc): Promise<void> {
  for (const one of await live(context.draft, it)) {
    if (one.status.state !== 'failed') continue
    await unroutePeering(context, one)
    context.draft.mark(one)
  }
}
