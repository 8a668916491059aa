import { Readable } from 'node:stream'
import Type from 'typebox'
import type { Caller } from '#cloud/access.ts'
import { replica } from '#cloud/compute/replica.kind.ts'
import { CloudError } from '#lib/errors.ts'
import {
  encodeInstance,
  Instance,
  InstanceStatus,
  machineNamed,
  machineOf,
  type Machine,
  machinesOf,
  MIB,
  MILLICORES,
  statusOf,
  StringMap,
} from './instance.ts'
import { Launch, launchOf } from './launch.ts'
import { type Frame, operation } from './operation.ts'
import { DONE_MS_MAX } from './reads.ts'
import { IdOrName, Message, Text } from './schema.ts'

/** Last lines of a log that are shown. */
const LOG_LINES_MAX = 10_000
const PERCENT = 100

const common = { tag: 'Instances' }
const one = { ...common, params: { id: IdOrName }, refuses: [404] as const }
const changing = { ...one, refuses: [404, 409] as const }
/** Of what is answered 409 elsewhere the contract wants another form (section D, 9 and 10). */
const WRONG_STATE = { 'conflict:wrong_state': { status: 400, type: 'CONFLICT' } }
const NOT_RUNNING = { 'conflict:wrong_state': { type: 'INSTANCE_NOT_RUNNING' } }

const PLAIN_TEXT = Type.Unsafe<Readable>({ content: { 'text/plain': { schema: Type.String() } } })

const StatsOf = Type.Object({
  cpu_percentage: Type.Number({ description: 'Of one vCPU.' }),
  memory_usage_bytes: Type.Number(),
  memory_limit_bytes: Type.Number(),
  memory_percentage: Type.Number(),
  network_rx_bytes: Type.Integer(),
  network_tx_bytes: Type.Integer(),
  disk_read_bytes: Type.Optional(Type.Integer({ description: 'Not measured yet.' })),
  disk_write_bytes: Type.Optional(Type.Integer({ description: 'Not measured yet.' })),
  cpu_time_nanoseconds: Type.Optional(Type.Integer()),
})

export function instanceRoutes(frame: Frame): void {
  listing(frame)
  changes(frame)
  power(frame)
  sight(frame)
  tags(frame)
}

/** `key:value`, or a key whatever its value. */
const hasTag = ({ it }: Machine, tag: string): boolean => {
  const at = tag.indexOf(':')
  return at < 0 ? Object.hasOwn(it.labels, tag) : it.labels[tag.slice(0, at)] === tag.slice(at + 1)
}

function listing(frame: Frame): void {
  const { cloud } = frame
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/instances',
    id: 'listInstances',
    remembered: true,
    summary: 'Instances of the tenant, oldest first',
    query: {
      tag: Type.Optional(
        Type.Union(
          [Type.String({ maxLength: 512 }), Type.Array(Type.String({ maxLength: 512 }), { maxItems: 50 })],
          {
            description: '`key:value`, or `key` whatever its value; repeated, all must match.',
          },
        ),
      ),
    },
    answer: Type.Array(Instance),
    paged: true,
    async run({ caller, query: { tag = [] } }) {
      const wanted = typeof tag === 'string' ? [tag] : tag
      const all = await machinesOf(cloud, caller)
      return all.filter((it) => wanted.every((one) => hasTag(it, one))).map(encodeInstance)
    },
  })
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/instances',
    id: 'launchInstance',
    summary: 'Launch an instance: a container with an address, files and volumes of its own',
    description:
      'Without a VPC it goes into the tenant’s default one. What it writes outside of volumes is kept while it is stopped, and lost when a volume is attached or detached. The SSH key’s text is given to it as SSH_PUBLIC_KEY. A volume that is in use is refused.',
    body: Launch,
    answer: Instance,
    status: 202,
    refuses: [404, 409],
    refusals: {
      'invalid:port_format': { type: 'INVALID_PORT_FORMAT' },
      'conflict:too_many': { type: 'TOO_MANY_PORTS' },
      'conflict:port_taken': { type: 'PORT_CONFLICT' },
    },
    async run({ caller, body }) {
      const input = await launchOf(cloud, caller, body)
      const it = await cloud.act(caller, 'instance.launch', (verbs) => verbs.launchInstance(input))
      return encodeInstance(await machineOf(cloud, caller, it))
    },
  })
  operation(frame, {
    ...one,
    method: 'GET',
    path: '/instances/:id',
    id: 'getInstance',
    remembered: true,
    summary: 'Read an instance',
    answer: Instance,
    run: async ({ caller, params }) => encodeInstance(await machineNamed(cloud, caller, params.id)),
  })
}

const Changed = {
  metadata: Type.Optional(StringMap),
  labels: Type.Optional(StringMap),
}

function changes(frame: Frame): void {
  const { cloud } = frame
  operation(frame, {
    ...changing,
    method: 'PUT',
    path: '/instances/:id',
    id: 'updateInstance',
    summary: 'Change name, metadata and labels, and start, resume, stop or pause it',
    description: 'Metadata and labels are merged; an empty value removes a key.',
    body: Type.Object({
      status: Type.Optional(Type.Enum(['RUNNING', 'STOPPED', 'PAUSED'])),
      name: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
      ...Changed,
    }),
    answer: Instance,
    refusals: WRONG_STATE,
    async run({ caller, params, body: { status, ...change } }) {
      const machine = await machineNamed(cloud, caller, params.id)
      const { id } = machine.it
      await cloud.act(caller, 'instance.update', async (verbs) => {
        await verbs.updateInstance(id, change)
        if (status === 'STOPPED') await verbs.stopInstance(id)
        if (status === 'PAUSED' && statusOf(machine) !== 'PAUSED') await verbs.pauseInstance(id)
        if (status === 'RUNNING') await verbs.startInstance(id)
      })
      return encodeInstance(await machineNamed(cloud, caller, id))
    },
  })
  operation(frame, {
    ...changing,
    method: 'PUT',
    path: '/instances/:id/metadata',
    id: 'updateInstanceMetadata',
    summary: 'Merge metadata and labels; an empty value removes a key',
    body: Type.Object(Changed),
    answer: Message('metadata updated'),
    async run({ caller, params, body }) {
      const { it } = await machineNamed(cloud, caller, params.id)
      await cloud.act(caller, 'instance.update', (verbs) => verbs.updateInstance(it.id, body))
      return { message: 'metadata updated' as const }
    },
  })
  operation(frame, {
    ...changing,
    method: 'POST',
    path: '/instances/:id/resize',
    id: 'resizeInstance',
    summary: 'Give it another type while it runs',
    body: Type.Object({ instance_type: Text(64) }),
    answer: Type.Object({
      message: Type.Literal('instance resized'),
      instance_type: Type.String(),
      status: InstanceStatus,
    }),
    refusals: { exhausted: { status: 403, type: 'QUOTA_EXCEEDED' } },
    async run({ caller, params, body: { instance_type: type } }) {
      const machine = await machineNamed(cloud, caller, params.id)
      await cloud.act(caller, 'instance.resize', (verbs) => verbs.resizeInstance(machine.it.id, type))
      return { message: 'instance resized' as const, instance_type: type, status: statusOf(machine) }
    },
  })
  operation(frame, {
    ...one,
    method: 'DELETE',
    path: '/instances/:id',
    id: 'terminateInstance',
    summary: 'Terminate it; its volumes stay',
    answer: Message('instance terminated'),
    async run({ caller, params }) {
      const { it } = await machineNamed(cloud, caller, params.id)
      await cloud.act(caller, 'instance.terminate', (verbs) => verbs.deleteWorkload(it.id))
      return { message: 'instance terminated' as const }
    },
  })
}

function power(frame: Frame): void {
  const { cloud } = frame
  for (const { word, message, summary, refusals } of [
    {
      word: 'stop',
      message: 'instance stop initiated',
      summary: 'Stop it; what it wrote is kept. Fine when it is stopped',
      refusals: WRONG_STATE,
    },
    {
      word: 'pause',
      message: 'instance paused',
      summary: 'Freeze its processes; memory and network are kept',
      refusals: WRONG_STATE,
    },
    {
      word: 'resume',
      message: 'instance resumed',
      summary: 'Let frozen processes go on',
      refusals: WRONG_STATE,
    },
  ] as const)
    operation(frame, {
      ...(word === 'stop' ? one : changing),
      method: 'POST',
      path: `/instances/:id/${word}`,
      id: `${word}Instance`,
      summary,
      answer: Message(message),
      refusals,
      async run({ caller, params }) {
        const { it, slot } = await machineNamed(cloud, caller, params.id)
        await cloud.act(caller, `instance.${word}`, async (verbs) => {
          if (word === 'stop') await verbs.stopInstance(it.id)
          else if (word === 'pause') await verbs.pauseInstance(it.id)
          else await verbs.resumeInstance(it.id)
        })
        if (word !== 'stop' && slot) await cloud.settled(caller, replica, slot.id, DONE_MS_MAX)
        return { message }
      },
    })
}

/** The replica of an instance that has a container; `conflict`, rule `wrong_state`, before and without. */
function containerOf({ slot }: Machine): string {
  if (slot?.status.runtimeId === undefined)
    throw new CloudError('conflict', 'The instance has no container', { rule: 'wrong_state' })
  return slot.id
}

function sight(frame: Frame): void {
  const { cloud } = frame
  operation(frame, {
    ...changing,
    method: 'GET',
    path: '/instances/:id/stats',
    id: 'getInstanceStats',
    summary: 'What it uses now',
    answer: StatsOf,
    refusals: NOT_RUNNING,
    async run({ caller, params, request }) {
      const machine = await machineNamed(cloud, caller, params.id)
      const { it } = machine
      const sample = await cloud.measure(caller, containerOf(machine), request.signal)
      const limit = it.spec.memoryMib * MIB
      return {
        cpu_percentage: (sample.cpuMillicores / MILLICORES) * PERCENT,
        memory_usage_bytes: sample.memoryBytes,
        memory_limit_bytes: limit,
        memory_percentage: (sample.memoryBytes / limit) * PERCENT,
        network_rx_bytes: sample.receivedBytes,
        network_tx_bytes: sample.sentBytes,
        ...(sample.cpuNs === undefined ? {} : { cpu_time_nanoseconds: sample.cpuNs }),
      }
    },
  })
  operation(frame, {
    ...changing,
    method: 'GET',
    path: '/instances/:id/logs',
    id: 'getInstanceLogs',
    summary: `What it printed, as plain text: its last ${LOG_LINES_MAX} lines`,
    answer: PLAIN_TEXT,
    bare: true,
    refusals: NOT_RUNNING,
    async run({ caller, params, request, reply }) {
      const id = containerOf(await machineNamed(cloud, caller, params.id))
      const entries = await cloud.logs(caller, id, { tail: LOG_LINES_MAX }, request.signal)
      async function* lines(): AsyncGenerator<string> {
        for await (const entry of entries) yield `${entry.line}\n`
      }
      void reply.header('content-type', 'text/plain; charset=utf-8').header('cache-control', 'no-store')
      return Readable.from(lines(), { objectMode: false })
    },
  })
}

function tags(frame: Frame): void {
  const { cloud } = frame
  const path = '/instances/:id/tags'
  const set = async (caller: Caller, reference: string, labels: Record<string, string>): Promise<void> => {
    const { it } = await machineNamed(cloud, caller, reference)
    await cloud.act(caller, 'instance.update', (verbs) => verbs.updateInstance(it.id, { labels }))
  }
  operation(frame, {
    ...one,
    method: 'GET',
    path,
    id: 'getInstanceTags',
    summary: 'Its tags, which are its labels',
    answer: StringMap,
    run: async ({ caller, params }) => ({ ...(await machineNamed(cloud, caller, params.id)).it.labels }),
  })
  operation(frame, {
    ...changing,
    method: 'POST',
    path,
    id: 'setInstanceTags',
    summary: 'Merge tags; an empty value removes one',
    body: Type.Object({ tags: Type.Optional(StringMap) }),
    answer: Message('tags updated'),
    async run({ caller, params, body }) {
      await set(caller, params.id, body.tags ?? {})
      return { message: 'tags updated' as const }
    },
  })
  operation(frame, {
    ...changing,
    method: 'DELETE',
    path: `${path}/:key`,
    params: { id: IdOrName, key: Text(255) },
    id: 'removeInstanceTag',
    summary: 'Remove a tag; fine when it has none of that name',
    answer: Message('tag removed'),
    async run({ caller, params }) {
      await set(caller, params.id, { [params.key]: '' })
      return { message: 'tag removed' as const }
    },
  })
}
