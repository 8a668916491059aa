import { CloudError } from '#lib/errors.ts'
import { authorise, creatorOf, ownTenant } from '#cloud/access.ts'
import type { VerbContext } from '#cloud/context.ts'
import { found, toChange } from '#cloud/found.ts'
import { VOLUME_USE } from '#cloud/compute/workload.kind.ts'
import { snapshot, type Snapshot } from './snapshot.kind.ts'
import { volume, type Volume } from './volume.kind.ts'

type Labels = { readonly labels?: Readonly<Record<string, string>> }

export async function createVolume(
  { draft, caller }: VerbContext,
  { name, sizeGib, labels }: Labels & { readonly name: string; readonly sizeGib: number },
): Promise<Volume> {
  authorise(caller, 'write', 'volume:create', { kind: 'volume', name })
  await Promise.resolve()
  return draft.create(volume, {
    tenant: ownTenant(caller),
    name,
    ...(labels ? { labels } : {}),
    spec: { sizeGib, ...creatorOf(caller) },
  })
}

/** Refused `conflict`, rule `in_use`, while it is attached; takes its snapshots along. */
export async function deleteVolume(context: VerbContext, id: string): Promise<Volume> {
  const { draft } = context
  const it = await toChange(context, volume, id, 'Volume', 'volume:delete')
  if (await draft.claimed(VOLUME_USE, it.id))
    throw new CloudError('conflict', 'The volume is in use; detach it first', { rule: 'in_use' })
  draft.mark(it)
  return it
}

/** Copies what a volume holds now; `conflict` when the volume could not be made. */
export async function createSnapshot(
  context: VerbContext,
  input: Labels & { readonly name?: string; readonly volume: string; readonly description?: string },
): Promise<Snapshot> {
  const { draft, caller } = context
  authorise(caller, 'write', 'snapshot:create', { kind: 'snapshot' })
  const of = await found(context, volume, input.volume, 'Volume')
  if (of.status.state === 'error')
    throw new CloudError('conflict', 'The volume could not be made', { rule: 'wrong_state' })
  const { description, labels } = input
  return draft.create(snapshot, {
    tenant: of.tenant,
    name: input.name ?? of.name,
    ...(labels ? { labels } : {}),
    spec: {
      volume: of.id,
      volumeName: of.name,
      sizeGib: of.status.sizeGib ?? of.spec.sizeGib,
      ...(description === undefined ? {} : { description }),
      ...creatorOf(caller),
    },
  })
}

/** A new volume with what a snapshot holds; `conflict` unless that is available. */
export async function restoreSnapshot(
  context: VerbContext,
  { id, name }: { readonly id: string; readonly name: string },
): Promise<Volume> {
  const { draft, caller } = context
  const it = await toChange(context, snapshot, id, 'Snapshot', 'snapshot:restore')
  if (it.status.state !== 'available')
    throw new CloudError('conflict', `The snapshot is ${it.status.state}; it must be available`, {
      rule: 'wrong_state',
    })
  return draft.create(volume, {
    tenant: it.tenant,
    name,
    spec: { sizeGib: it.spec.sizeGib, from: it.id, ...creatorOf(caller) },
  })
}
