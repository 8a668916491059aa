import { createHash } from 'node:crypto'
import type { PlacedWorkload } from '#cloud/cloud.ts'
import { cidr6Of } from '#cloud/network/addresses.driver.ts'
import type { Workload } from '#cloud/compute/workload.kind.ts'
import { referenceOf } from '#lib/image-reference.ts'
import { remembered } from '#lib/remembered.ts'
import { slugOf } from '#lib/slug.ts'
import { objectId, objectIdOf } from '#lib/object-id.ts'
import { rangeOf } from './environment.ts'
import { CLUSTER } from './place.ts'
import type { Container, ContainerSummary } from './schema/container.ts'
import type { Config } from './schema/container-config.ts'
import { creatorOf, durationOf, lifetimeOf, timeOf } from './wire.ts'

export const STATES = {
  pending: 'starting',
  running: 'running',
  degraded: 'running',
  stopped: 'stopped',
  error: 'stopped',
} as const

function stateOf({ workload, wanted, startedAt }: PlacedWorkload): Container['state'] {
  const { status, spec, deletedAt, updatedAt } = workload
  const changed = timeOf(status.changedAt ?? updatedAt)
  if (deletedAt !== undefined) return { current: 'deleting', changed: timeOf(deletedAt), desired: 'deleted' }
  const isNew = status.state === 'pending' && startedAt === undefined && wanted === 0
  const resting = spec.function === true && status.state !== 'error'
  return {
    current: resting ? 'function' : isNew ? 'new' : STATES[status.state],
    changed,
    desired: spec.function === true ? 'function' : wanted > 0 ? 'running' : 'stopped',
    ...(status.message === undefined || status.state === 'running'
      ? {}
      : { error: { message: status.message, time: changed } }),
  }
}

/** Whether it is reached from outside, reaches out, or neither. */
function publicOf({ workload: { spec }, vpc }: PlacedWorkload): Config['network']['public'] {
  if (spec.externalAddress !== undefined) return 'enable'
  return spec.egress && vpc.spec.internet ? 'egress-only' : 'disable'
}

const commandOf = (words: readonly string[]): string => words.join(' ')

function runtimeOf({ spec }: Workload): NonNullable<Config['runtime']> {
  const { entrypoint = [], command = [] } = spec
  const [path, ...before] = entrypoint
  return {
    ...(entrypoint.length + command.length > 0
      ? { command: { path: path ?? null, args: commandOf([...before, ...command]) } }
      : {}),
    environment_vars: spec.env,
    privileged: false,
    capabilities: spec.capabilities.map((it) => `CAP_${it.replace(/^CAP_/, '')}`) as NonNullable<
      NonNullable<Config['runtime']>['capabilities']
    >,
    ...(spec.workdir === undefined ? {} : { workdir: spec.workdir }),
    rootfs: { readonly: false },
  }
}

/** Only a check by a command can be said here. */
function healthOf({ spec: { health, healing } }: Workload): Config['deploy']['health_check'] {
  if (health?.check.type !== 'command') return undefined
  return {
    command: commandOf(health.check.command),
    retries: health.failuresMax,
    delay: durationOf(health.startSeconds),
    interval: durationOf(health.intervalSeconds),
    timeout: durationOf(health.timeoutSeconds),
    restart: healing,
  }
}

function configOf(it: PlacedWorkload): Config {
  const { workload, wanted } = it
  const { spec } = workload
  const health = healthOf(workload)
  return {
    network: {
      public: publicOf(it),
      hostname: workload.name,
      ports: spec.ports.map(({ port, protocol }) =>
        protocol === 'tcp' ? `${port}:${port}` : `${port}:${port}/udp`,
      ),
    },
    deploy: {
      instances: wanted,
      strategy: spec.function === true ? 'function' : null,
      shutdown: { graceful_timeout: durationOf(spec.stopGraceSeconds), signals: null },
      ...(health ? { health_check: health } : {}),
    },
    runtime: runtimeOf(workload),
    resources: {
      cpu: { cpus: String(spec.cpuMillicores / 1000) },
      ram: { limit: `${spec.memoryMib}M` },
    },
  }
}

/** The workload's one directory that outlives its replicas. */
function volumesOf({ id, spec: { persistence } }: Workload): NonNullable<Container['volumes']> {
  if (!persistence.enabled) return []
  const { path } = persistence
  return [
    {
      id: objectId(id),
      hash: createHash('sha256').update(`${id} ${path}`).digest('hex'),
      config: { identifier: null, read_only: false, block_device: false, local: null, destination: path },
    },
  ]
}

export const deploymentOf = ({ spec }: Workload) =>
  spec.deploymentVersion === undefined ? null : { version: spec.deploymentVersion }

/** Id under which a workload's image is known: that of its reference, with a tag in it. */
const imageIdOf = (image: string): string => objectIdOf(referenceOf(image))

/** What a container and its summary have in common. */
function headOf(it: PlacedWorkload) {
  const { workload, vpc, subnet } = it
  return {
    id: objectId(workload.id),
    name: workload.name,
    creator: creatorOf(workload),
    environment: {
      id: objectId(vpc.id),
      cluster: CLUSTER,
      container_subnet: subnet.spec.index6.toString(16),
      ipv6: rangeOf(cidr6Of(vpc.spec.range6, subnet.spec.index6)),
      legacy: null,
    },
    hub_id: objectId(workload.tenant),
    image: { id: imageIdOf(workload.spec.image), extension: null, service: workload.spec.service ?? null },
    stack: null,
    annotations: Object.keys(workload.labels).length > 0 ? { ...workload.labels } : null,
    state: stateOf(it),
    deployment: deploymentOf(workload),
    deprecate: false,
    lock: false,
    events: { ...lifetimeOf(workload), started: timeOf(it.startedAt) },
  }
}

export const encodeContainer = remembered((it: PlacedWorkload): Container => ({
  ...headOf(it),
  identifier: slugOf(it.workload.name),
  config: configOf(it),
  instances: it.wanted,
  volumes: volumesOf(it.workload),
  role: it.workload.spec.role ?? null,
  stateful: it.workload.spec.persistence.enabled,
}))

/** The answer that is nothing but a container. */
export const containerAnswer = remembered((it: PlacedWorkload) => ({ data: encodeContainer(it) }))

/** Without `role`, whose null the vendor's list of words refuses (section 12). */
export const encodeContainerSummary = (it: PlacedWorkload): ContainerSummary => headOf(it)
