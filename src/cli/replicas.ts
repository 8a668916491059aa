import { type Client, pathOf, type Resource } from './client.ts'
import { EXIT, Failure, isMissing } from './failure.ts'
import { getOne, kindNamed, listAll } from './resources.ts'

const REPLICAS_MAX = 200
const ID = /^[0-9a-f]{8}-[0-9a-f-]{27}$/i

/** Replicas of a workload that are not on their way out, by index. */
export async function replicasOf(client: Client, workload: string): Promise<readonly Resource[]> {
  const { items } = await listAll(client, 'replica', { term: `workload:${workload}` }, REPLICAS_MAX)
  return items
    .filter((it) => it.deletedAt === undefined)
    .toSorted((a, b) => Number(a.spec['index']) - Number(b.spec['index']))
}

/**
 * The replica that a word means: `replica/NAME`, a replica's id, or a workload, of which it is the one with this index or
 * else the first that is ready.
 */
export async function replicaFor(client: Client, word: string, index: number | undefined): Promise<Resource> {
  const slash = word.indexOf('/')
  const kind = slash < 0 ? undefined : word.slice(0, slash)
  if (kind === 'replica' || kind === 'replicas') return await getOne(client, 'replica', word.slice(slash + 1))
  if (ID.test(word)) {
    const found = await client.get<Resource>(pathOf('replica', word)).catch((error: unknown) => {
      if (isMissing(error)) return undefined
      throw error
    })
    if (found) return found
  }
  const isKind = kind !== undefined && (await kindNamed(client, kind).catch(() => undefined)) === 'workload'
  const workload = await getOne(client, 'workload', isKind ? word.slice(slash + 1) : word)
  const replicas = await replicasOf(client, workload.id)
  const found =
    index === undefined
      ? (replicas.find((it) => it.status['ready'] === true) ??
        replicas.find((it) => it.status['phase'] === 'running') ??
        replicas[0])
      : replicas.find((it) => it.spec['index'] === index)
  if (found) return found
  throw new Failure(
    EXIT.refused,
    index === undefined
      ? `workload/${workload.name} has no replica`
      : `workload/${workload.name} has no replica ${index}`,
    replicas.length
      ? `it has ${replicas.map((it) => String(it.spec['index'])).join(', ')}`
      : `arcus explain workload ${workload.name} says why`,
  )
}
