import { CloudError } from '#lib/errors.ts'
import { referenceOf } from '#lib/image-reference.ts'
import { inParallel } from '#lib/lanes.ts'
import { objectIdOf } from '#lib/object-id.ts'
import type { Engine } from '#engine/engine.ts'
import type { Everything } from '#engine/everything.ts'
import { PLATFORM } from '#engine/resource.ts'
import type { Settings } from '#cloud/context.ts'
import type { ComputeDriver, ImageWish, Sample } from '#cloud/compute/compute.driver.ts'
import { workload, type Workload } from '#cloud/compute/workload.kind.ts'
import { user } from '#cloud/identity/user.kind.ts'
import type { CachedImage, Instance, PlacedReplica, Server } from './inside.ts'
import type { Sight } from './sight.ts'

/** How long whoever asks for an image waits for it; the fetch goes on. */
const FETCH_MS_MAX = 600_000
const POLL_MS = 250
const IMAGES_AT_ONCE_MAX = 8
const FETCHED = 'image.fetched'

export type MachineTools = {
  readonly engine: Engine
  readonly compute: ComputeDriver
  readonly settings: Settings
  readonly everything: Everything
  readonly sight: Sight
  readonly sample: (replica: string) => Sample | undefined
  /** The login for the registry of a workload's image. */
  readonly registryFor: (of: Workload) => Promise<ImageWish['registry'] | undefined>
}

/** The machine that the replicas run on, as one tenant may know it. */
export function createMachine(tools: MachineTools) {
  const { engine, compute, settings, everything, sight } = tools
  const id = objectIdOf(engine.mac('this machine', 'server id'))

  /** The tenant's images by reference, each with a workload that names it. */
  const named = async ({ tenant }: Instance): Promise<ReadonlyMap<string, Workload>> =>
    new Map(
      (await everything(workload, tenant.id, { deleted: false })).map((it) => [
        referenceOf(it.spec.image),
        it,
      ]),
    )
  const wishOf = async (image: string, of: Workload): Promise<ImageWish> => {
    const registry = await tools.registryFor(of)
    return { tenant: of.tenant, image, ...(registry ? { registry } : {}) }
  }
  /** When the tenant last started something of it, or asked for it. */
  const usedAt = async (of: Instance, reference: string, all: readonly PlacedReplica[]): Promise<number> => {
    const subject = objectIdOf(reference)
    const { records } = await engine.store.records({
      stream: 'event',
      tenant: of.tenant.id,
      subject,
      limit: 1,
      newestFirst: true,
    })
    const starts = all.flatMap((it) =>
      referenceOf(it.workload.spec.image) === reference ? (it.replica.status.startedAt ?? []) : [],
    )
    return Math.max(0, records[0]?.at ?? 0, ...starts)
  }
  const cached = async (
    of: Instance,
    reference: string,
    all: readonly PlacedReplica[],
  ): Promise<CachedImage> => ({
    id: objectIdOf(reference),
    reference,
    usedAt: await usedAt(of, reference, all),
  })

  const machine = { id, hostname: settings.machine.hostname, cpus: settings.machine.cpus }

  return {
    machine,
    async server(of: Instance): Promise<Server> {
      const claim = await engine.store.claim('singleton', 'first admin')
      const first = claim && (await engine.get(user, PLATFORM, claim.owner))
      const newest = (await sight.serverReplicas(of)).at(-1)
      return {
        ...machine,
        createdAt: first?.createdAt ?? of.tenant.createdAt,
        ...(newest ? { latestReplicaAt: newest.replica.createdAt } : {}),
      }
    },
    async samples(of: Instance) {
      const all = (await sight.serverReplicas(of)).filter((it) => it.replica.status.phase === 'running')
      return all.flatMap((it) => {
        const sample = tools.sample(it.replica.id)
        return sample ? [{ replica: it, sample }] : []
      })
    },
    async images(of: Instance): Promise<readonly CachedImage[]> {
      const signal = AbortSignal.timeout(FETCH_MS_MAX)
      const all = await sight.serverReplicas(of)
      const seen = await inParallel([...(await named(of))], IMAGES_AT_ONCE_MAX, async ([reference, by]) => {
        const { state } = await compute.observeImage(await wishOf(reference, by), signal)
        return state === 'present' ? [await cached(of, reference, all)] : []
      })
      return seen.flat().toSorted((a, b) => (a.reference < b.reference ? -1 : 1))
    },
    async fetchImage(of: Instance, image: string, signal: AbortSignal): Promise<CachedImage> {
      const found = [...(await named(of))].find(
        ([reference]) => objectIdOf(reference) === image.toLowerCase(),
      )
      if (!found)
        throw new CloudError('not_found', 'No container of the hub uses such an image', { field: 'image' })
      const [reference, by] = found
      const wish = await wishOf(reference, by)
      const until = engine.clock.now() + FETCH_MS_MAX
      await compute.fetchImage(wish, signal)
      for (;;) {
        const seen = await compute.observeImage(wish, signal)
        if (seen.state === 'present') break
        if (seen.state === 'failed' || engine.clock.now() >= until)
          throw new CloudError('unavailable', seen.message ?? 'the image is still being fetched; ask again')
        await engine.clock.sleep(POLL_MS, signal)
      }
      await engine.transact(async (draft) => {
        draft.record({
          stream: 'event',
          tenant: of.tenant.id,
          subject: objectIdOf(reference),
          what: FETCHED,
          body: { image: reference, replica: of.replica.id },
        })
        await Promise.resolve()
      })
      return { id: objectIdOf(reference), reference, usedAt: engine.clock.now() }
    },
  }
}
