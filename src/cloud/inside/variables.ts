import { CloudError } from '#lib/errors.ts'
import type { GuardedClient } from '#lib/guarded.ts'
import { keepNewest } from '#lib/newest.ts'
import type { Engine } from '#engine/engine.ts'
import type { Everything } from '#engine/everything.ts'
import { attemptOf } from '#cloud/compute/replica.kind.ts'
import type { GivenVariable, Instance } from './inside.ts'
import { scopedVariable, type ScopedVariable, VALUE_LENGTH_MAX } from './scoped-variable.kind.ts'

const SOURCE_MS = 5000
/** Replicas whose fetched values are remembered; that of the longest ago is fetched anew. */
const REPLICAS_MAX = 10_000
const STATUS_OK_MAX = 299

/** How closely a variable names a workload: its id before its name before all; undefined when it does not. */
function closeness({ spec }: ScopedVariable, workload: { id: string; name: string }): number | undefined {
  if (spec.scope.workloads.includes(workload.id)) return 2
  if (spec.scope.names.includes(workload.name)) return 1
  return spec.scope.global ? 0 : undefined
}

/** Of each identifier the variable that counts for a workload: the closest, then the newest. Pure. */
export function chosen(
  variables: readonly ScopedVariable[],
  of: Pick<Instance['workload'], 'id' | 'name' | 'spec'>,
): ScopedVariable[] {
  const best = new Map<string, { readonly it: ScopedVariable; readonly rank: number }>()
  for (const it of variables) {
    const { deploymentVersion } = it.spec
    if (deploymentVersion !== undefined && deploymentVersion !== of.spec.deploymentVersion) continue
    const rank = closeness(it, of)
    const had = best.get(it.name)
    if (rank !== undefined && (!had || rank > had.rank || (rank === had.rank && it.id > had.it.id)))
      best.set(it.name, { it, rank })
  }
  return [...best.values()].map(({ it }) => it)
}

/** Whether the workload's own API may still give it. Pure. */
function isReadable({ spec }: ScopedVariable, startedAt: number | undefined, now: number): boolean {
  const { api } = spec.access
  if (!api) return false
  return (
    api.durationSeconds === undefined ||
    startedAt === undefined ||
    now - startedAt < api.durationSeconds * 1000
  )
}

/** The variables of replicas with their values; those of addresses are fetched once for each start. */
export function createVariables(engine: Engine, everything: Everything, ask: GuardedClient) {
  const fetched = new Map<
    string,
    { readonly attempt: number; readonly values: Map<string, Promise<string>> }
  >()

  const bodyOf = async (url: string, headers: Readonly<Record<string, string>>): Promise<string> => {
    const { status, body } = await ask({ url, headers, timeoutMs: SOURCE_MS, bytesMax: VALUE_LENGTH_MAX })
    if (status < 200 || status > STATUS_OK_MAX)
      throw new CloudError('unavailable', `it answers with status ${status}`)
    return body
  }
  const fetchValue = async ({ spec }: ScopedVariable, url: string): Promise<string> => {
    try {
      const authorization =
        spec.authUrl === undefined ? {} : { authorization: (await bodyOf(spec.authUrl, {})).trim() }
      return await bodyOf(url, { ...spec.headers, ...authorization })
    } catch {
      // What it holds then, by contract; the address and the answer may be secret.
      return ''
    }
  }
  const valueOf = async (it: ScopedVariable, { replica }: Instance): Promise<string> => {
    const { url } = it.spec
    if (url === undefined) return it.spec.value ?? engine.open(it, 'secret') ?? ''
    const attempt = attemptOf(replica)
    let memory = fetched.get(replica.id)
    if (memory?.attempt !== attempt) {
      memory = { attempt, values: new Map() }
      keepNewest(fetched, replica.id, memory, REPLICAS_MAX)
    }
    const key = `${it.id}/${it.generation}`
    const value = memory.values.get(key) ?? fetchValue(it, url)
    memory.values.set(key, value)
    return await value
  }
  const allOf = async ({ vpc, tenant, workload }: Instance): Promise<ScopedVariable[]> => {
    const terms = [`vpc:${vpc.id}`]
    return chosen(await everything(scopedVariable, tenant.id, { terms, deleted: false }), workload)
  }

  return {
    async readable(of: Instance): Promise<Readonly<Record<string, string>>> {
      const { startedAt } = of.replica.status
      const all = (await allOf(of)).filter((it) => isReadable(it, startedAt, engine.clock.now()))
      const values = all.map(async (it) => [it.name, await valueOf(it, of)] as const)
      return Object.fromEntries(await Promise.all(values))
    },
    /** Those for its environment and files. What the API alone gives is fetched with them, as of now. */
    async given(of: Instance): Promise<readonly GivenVariable[]> {
      const all = await allOf(of)
      const values = await Promise.all(all.map(async (it) => await valueOf(it, of)))
      return all.flatMap((it, at) =>
        it.spec.access.env || it.spec.access.file
          ? [{ variable: engine.redact(it), value: values[at] ?? '' }]
          : [],
      )
    },
  }
}
