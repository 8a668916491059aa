import Type from 'typebox'
import { defineKind, type KindEvent } from '#engine/kind.ts'
import { event } from '#cloud/inside/event.kind.ts'
import type { Resource, ResourceOf } from '#engine/resource.ts'
import { Metered } from '#cloud/observe/usage.kind.ts'
import { HOST_ADVICE } from '#cloud/states.ts'
import { Progress } from './progress.ts'

type Wish = { attempt: number; starts?: number; stopped?: boolean; paused?: boolean }
type Seen = { attempt?: number; phase: string; ready: boolean }

/** Which container it should have: the workload's attempt and each start ask for a new one, with a higher number. */
export const attemptOf = ({ spec }: { readonly spec: Wish }): number => spec.attempt + (spec.starts ?? 0)

/** Whether its status speaks of the container that it should have. */
export const isCurrent = (it: { readonly spec: Wish; readonly status: Seen }): boolean =>
  it.status.attempt === attemptOf(it)

/** Its phase, as far as it speaks of the container that is wanted; `unready` is one that runs and gets no connections. */
function stateWord(it: Resource<Wish, Seen>): string {
  const { deletedAt, spec, status } = it
  if (deletedAt !== undefined) return 'deleting'
  if (spec.stopped === true) return status.phase === 'stopped' ? 'stopped' : 'stopping'
  if (spec.paused === true && status.phase === 'running') return 'pausing'
  if (!isCurrent(it)) return 'pending'
  return status.phase === 'running' && !status.ready ? 'unready' : status.phase
}

function events(
  before: Resource<Wish & { workload: string; vpc: string }, Seen> | undefined,
  after: typeof before,
): KindEvent[] {
  const of = after ?? before
  const [was, is] = [before && stateWord(before), after ? stateWord(after) : 'deleted']
  if (!of || was === is) return []
  const { vpc, workload } = of.spec
  const turn = { ...(was === undefined ? {} : { from: was }), to: is }
  return [
    event('workload.replicas.changed', workload, {
      ...turn,
      of: of.id,
      vpcs: [vpc],
      workloads: [workload],
    }),
  ]
}

/** One running unit of a workload: a slot with an index and addresses that healing and restarts keep. */
export const replica = defineKind({
  name: 'replica',
  spec: Type.Object(
    {
      workload: Type.String(),
      vpc: Type.String(),
      subnet: Type.String(),
      index: Type.Integer({ minimum: 0 }),
      address: Type.String({ format: 'ipv4' }),
      fabric: Type.String({ format: 'ipv4' }),
      /** The workload's attempt that this one should run. */
      attempt: Type.Integer({ minimum: 1 }),
      /** Somebody wants it not to run: it keeps its slot and addresses, and gets no connections. */
      stopped: Type.Optional(Type.Boolean()),
      /** Somebody wants its processes frozen: they keep their memory, and it gets no connections. */
      paused: Type.Optional(Type.Boolean()),
      /** How often it was started by hand or by a workload. */
      starts: Type.Optional(Type.Integer({ minimum: 1 })),
      /** Of a function's run: what whoever started it goes by, */
      functionToken: Type.Optional(Type.String({ maxLength: 4096 })),
      /** and environment variables for that run alone, as JSON. */
      functionEnv: Type.Optional(Type.String({ maxLength: 262_144 })),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({
    phase: Type.Enum(['pending', 'running', 'paused', 'stopped', 'succeeded', 'failed']),
    ready: Type.Boolean(),
    restarts: Type.Integer(),
    /** The attempt that phase speaks of: `attempt` and `starts` of the spec together. */
    attempt: Type.Optional(Type.Integer()),
    /** When phase or ready last changed, in milliseconds since 1970. */
    changedAt: Type.Optional(Type.Integer()),
    message: Type.Optional(Type.String()),
    /** While its image is on its way. */
    progress: Type.Optional(Progress),
    runtimeId: Type.Optional(Type.String()),
    startedAt: Type.Optional(Type.Integer()),
    exitCode: Type.Optional(Type.Integer()),
    /** What its console showed has been copied to the stored logs. */
    kept: Type.Optional(Type.Boolean()),
    /** Its container is gone: its network may let go of its addresses. */
    released: Type.Optional(Type.Boolean()),
    /** The usage interval that is open: while the phase is running. */
    metered: Type.Optional(Metered),
  }),
  initial: { phase: 'pending', ready: false, restarts: 0 },
  immutable: ['workload', 'vpc', 'subnet', 'index', 'address', 'fabric'],
  secret: ['functionToken', 'functionEnv'],
  settleSecondsMax: 600,
  states: {
    pending: { advice: `\`arcus logs\` shows what its container said. ${HOST_ADVICE}` },
    running: { advice: `\`arcus logs\` shows why its program ends. ${HOST_ADVICE}`, fine: true },
    unready: {
      advice:
        'Its health check has to pass; `arcus logs` shows what its program says, `arcus exec` tries the check',
    },
    stopping: { advice: HOST_ADVICE },
    stopped: { advice: 'Somebody stopped it; `arcus start` starts it again', fine: true },
    pausing: { advice: HOST_ADVICE },
    paused: { advice: 'Somebody froze it; resume its instance and it goes on', fine: true },
    succeeded: { advice: 'Its program ended; `arcus restart` of its workload starts it again', fine: true },
    failed: {
      advice:
        'It cannot start as it is; correct the image, registry login or command of its workload, or restart that when the cause is gone',
    },
    deleting: { advice: HOST_ADVICE },
  },
  state: stateWord,
  claims: (r) => [
    { pool: `addresses:${r.spec.subnet}`, value: r.spec.address, ends: 'removal' },
    { pool: 'fabric', value: r.spec.fabric, ends: 'removal' },
    { pool: `slots:${r.spec.workload}`, value: String(r.spec.index), ends: 'removal' },
  ],
  refs: (r) => [
    { to: r.spec.workload, onDelete: 'cascade' },
    { to: r.spec.vpc, onDelete: 'cascade' },
  ],
  terms: (r) => [`vpc:${r.spec.vpc}`, `workload:${r.spec.workload}`],
  wakes: (r) => [`workload/${r.spec.workload}`, `vpc/${r.spec.vpc}`],
  events,
})
export type Replica = ResourceOf<typeof replica>

/** Only what is ready, wanted and not on its way out gets connections. */
export const serves = (it: Replica, workload: string): boolean =>
  it.spec.workload === workload &&
  it.deletedAt === undefined &&
  it.spec.stopped !== true &&
  it.spec.paused !== true &&
  it.status.ready &&
  isCurrent(it)
