import type { Draft } from '#engine/draft.ts'
import type { Vpc } from '#cloud/network/vpc.kind.ts'
import type { ComputeDriver, ContainerWish } from './compute.driver.ts'
import { normalRegistry, registryOf } from './image.ts'
import { registryCredential } from './registry-credential.kind.ts'
import { attemptOf, type Replica } from './replica.kind.ts'
import { namesOf, podNameOf, type Workload } from './workload.kind.ts'

const NDOTS_DEFAULT = 1

/** What a replica's container should be. `registry` is looked up apart, since it holds a password. */
export function wishOf(
  it: Replica,
  of: Workload,
  inVpc: Vpc,
  ndots: number | null | undefined,
): ContainerWish {
  const { spec } = of
  return {
    id: it.id,
    tenant: it.tenant,
    workload: of.id,
    vpc: it.spec.vpc,
    subnet: it.spec.subnet,
    attempt: attemptOf(it),
    name: it.name,
    image: spec.image,
    ...(spec.entrypoint ? { entrypoint: spec.entrypoint } : {}),
    ...(spec.command ? { command: spec.command } : {}),
    env: spec.env,
    ...(spec.user === undefined ? {} : { user: spec.user }),
    ...(spec.workdir === undefined ? {} : { workdir: spec.workdir }),
    hostname: spec.instance ? podNameOf(of) : it.name.slice(0, 63),
    cpuMillicores: spec.cpuMillicores,
    memoryMib: spec.memoryMib,
    pidsMax: spec.pidsMax,
    capabilities: spec.capabilities,
    mounts: [
      ...(spec.persistence.enabled ? [{ volume: of.id, path: spec.persistence.path, readOnly: false }] : []),
      ...(spec.volumes ?? []).map(({ volume, path }) => ({ volume, path, readOnly: false, disk: true })),
    ],
    ...(spec.health ? { health: spec.health } : {}),
    healing: spec.healing && spec.function !== true,
    stopGraceSeconds: spec.stopGraceSeconds,
    ...(spec.instance ? { keep: true } : {}),
    ...(it.spec.stopped === true
      ? { power: 'off' as const }
      : it.spec.paused === true
        ? { power: 'paused' as const }
        : {}),
    dns: { search: [`${inVpc.name}.internal`], ndots: ndots ?? NDOTS_DEFAULT },
  }
}

/** The wish with the names that its container is known by in its VPC, for a network without VIPs. */
export const withNames = (
  wish: ContainerWish,
  of: Workload,
  inVpc: Vpc,
  nameservers: readonly string[],
): ContainerWish => ({
  ...wish,
  dns: { ...wish.dns, ...(nameservers.length ? { nameservers } : {}) },
  names: namesOf(of).flatMap((name) => [name, `${name}.${inVpc.name}.internal`]),
})

/** The login for an image's registry: the tenant's oldest credential of that server, undefined for an anonymous pull. */
export async function registryFor(
  draft: Draft,
  of: Workload,
): Promise<ContainerWish['registry'] | undefined> {
  if (!of.spec.useRegistryCredentials) return undefined
  const host = registryOf(of.spec.image)
  const all = await draft.list(registryCredential, { tenant: of.tenant, deleted: false })
  const match = all.find((it) => normalRegistry(it.spec.server) === host)
  const password = match && draft.open(match, 'password')
  return match && password !== undefined
    ? { server: host, username: match.spec.username, password }
    : undefined
}

/** Hands wishes to the driver, each only when it differs from the one handed over before. */
export type Containers = {
  /** True when it was handed over. */
  apply(wish: ContainerWish, registry: ContainerWish['registry'], signal: AbortSignal): Promise<boolean>
  /** Drops the memory of one, since the driver was seen to hold something else or nothing. */
  distrust(id: string): void
  /** The replica is gone. */
  forget(id: string): void
}

export function createContainers(compute: ComputeDriver): Containers {
  const applied = new Map<string, string>()
  // Calls under way or done, counted: one that another overtook says nothing of what the driver holds now.
  const calls = new Map<string, number>()
  return {
    async apply(wish, registry, signal) {
      const text = JSON.stringify(wish)
      if (applied.get(wish.id) === text) return false
      const call = (calls.get(wish.id) ?? 0) + 1
      calls.set(wish.id, call)
      applied.delete(wish.id)
      await compute.apply(registry ? { ...wish, registry } : wish, signal)
      if (calls.get(wish.id) === call) applied.set(wish.id, text)
      else applied.delete(wish.id)
      return true
    },
    distrust: (id) => void applied.delete(id),
    forget(id) {
      applied.delete(id)
      calls.delete(id)
    },
  }
}
