import type { Engine } from '#engine/engine.ts'
import type { Resource } from '#engine/resource.ts'
import type { NewRecord } from '#engine/store.ts'
import type { Caller } from './access.ts'
import type { VerbContext } from './context.ts'
import { createVerbs, type Verbs } from './verbs.ts'

/**
 * Does everything `work` does in one commit, with an audit entry named `what`. A lost race runs `work` again, so it must
 * do nothing but call verbs. With dryRun everything is checked and nothing is written.
 */
export type Act = <R>(
  caller: Caller,
  what: string,
  work: (verbs: Verbs) => Promise<R>,
  how?: { dryRun?: boolean },
) => Promise<R>

export const createAct =
  (engine: Engine, context: Omit<VerbContext, 'draft' | 'caller'>): Act =>
  async (caller, what, work, how = {}) =>
    await engine.transact(async (draft) => {
      const result = await work(createVerbs({ ...context, draft, caller }))
      draft.record(audited(caller, what, result))
      return result
    }, how)

/** What the audit notes of an act: who did it, and to which resource, where that is what came of it. */
function audited(caller: Caller, what: string, result: unknown): Omit<NewRecord, 'at'> {
  const { dialect, address, requestId, userAgent } = caller.origin
  const parts = [result, ...Object.values((result ?? {}) as object)] as (Partial<Resource> | undefined)[]
  const about = parts.find((it) => it?.kind !== undefined && it.id !== undefined)
  return {
    stream: 'audit',
    tenant: caller.tenant,
    ...(about?.id === undefined ? {} : { subject: about.id }),
    what,
    body: {
      subject: caller.subject,
      credential: caller.credential,
      dialect,
      address,
      requestId,
      ...(userAgent === undefined || userAgent === '' ? {} : { userAgent }),
      ...(about ? { kind: about.kind, name: about.name } : {}),
    },
  }
}
