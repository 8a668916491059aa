import assert from 'node:assert/strict'
import type { Pod } from './client.testing.ts'
import { containersOf, httpFrom, tcpFrom, type Place } from './host.testing.ts'
import { eventually } from './wait.testing.ts'

/** The network of a pod's first container. */
export async function placeOf(pod: Pick<Pod, 'id' | 'name'>): Promise<Place> {
  const [first] = await containersOf(pod.id)
  assert.ok(first, `${pod.name} has no running container`)
  return { pid: first.pid }
}

/** A container runs a moment before the process in it listens. */
const LISTENS_WITHIN_MS = 10_000

/** Asks the probe in a pod's own container, over its loopback, so that the answer says what the container sees. */
export async function askProbe(
  pod: Pick<Pod, 'id' | 'name'>,
  path: string,
  timeoutMs = 6000,
): Promise<{ status: number; body: string }> {
  const seen = await eventually(
    `the probe in ${pod.name} listens`,
    async () => {
      const [it] = await httpFrom(await placeOf(pod), `http://127.0.0.1${path}`, { timeoutMs })
      return it && 'error' in it && it.error === 'ECONNREFUSED' ? undefined : it
    },
    LISTENS_WITHIN_MS,
  )
  assert.ok('status' in seen, `${pod.name} ${path}: ${JSON.stringify(seen)}`)
  return seen
}

/** Waits until the probe listens in every container of the pods. */
export async function listening(...pods: Pick<Pod, 'id' | 'name'>[]): Promise<void> {
  for (const pod of pods) await listeningAt(pod, 80)
}

/** Waits until a port is listened at in every container of the pod. */
export async function listeningAt({ id, name }: Pick<Pod, 'id' | 'name'>, port: number): Promise<void> {
  for (const { pid } of await containersOf(id)) {
    await eventually(
      `${name} listens at ${port}`,
      async () => (await tcpFrom({ pid }, '127.0.0.1', port)) === 'connected',
      LISTENS_WITHIN_MS,
    )
  }
}

/** What a process in the pod gets for a URL: its answer, or undefined when nothing answers. */
export async function fetchFrom(
  pod: Pick<Pod, 'id' | 'name'>,
  url: string,
): Promise<{ status: number; body: string } | undefined> {
  const seen = await askProbe(pod, `/fetch?url=${encodeURIComponent(url)}`)
  return seen.status < 500 ? seen : undefined
}

/** Names of the replicas that answered `times` new connections to an address. */
export async function answering(
  from: Pick<Pod, 'id' | 'name'>,
  host: string,
  times: number,
): Promise<Set<string>> {
  const answers = await httpFrom(await placeOf(from), `http://${host}/hostname`, { times })
  return new Set(
    answers.map((it) => {
      assert.ok('status' in it && it.status === 200, `${host}: ${JSON.stringify(it)}`)
      return it.body.trim()
    }),
  )
}
