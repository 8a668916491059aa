import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { Resource, ResourceOf } from '#engine/resource.ts'
import { Metered } from '#cloud/observe/usage.kind.ts'
import { HOST_ADVICE } from '#cloud/states.ts'

type Seen = { attempt?: number; phase: string; ready: boolean }

/** Its phase, as far as it speaks of the attempt that is wanted; `unready` is one that runs and gets no connections. */
function stateWord({ deletedAt, spec, status }: Resource<{ attempt: number }, Seen>): string {
  if (deletedAt !== undefined) return 'deleting'
  if (status.attempt !== spec.attempt) return 'pending'
  return status.phase === 'running' && !status.ready ? 'unready' : status.phase
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
      /** How often it was asked to start since it was made; a higher number wants a new container. */
      starts: Type.Optional(Type.Integer({ minimum: 1 })),
      /** Of a function's run: what whoever started it goes by, */
      functionToken: Type.Optional(Type.String({ maxLength: 4096 })),
      /** and environment variables for that run alone, as JSON. */
      functionEnv: Type.Optional(Type.String({ maxLength: 262_144 })),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({
    phase: Type.Enum(['pending', 'running', 'stopped', 'succeeded', 'failed']),
    ready: Type.Boolean(),
    restarts: Type.Integer(),
    /** The attempt that phase speaks of. */
    attempt: Type.Optional(Type.Integer()),
    /** The start that phase speaks of. */
    starts: Type.Optional(Type.Integer()),
    /** When phase or ready last changed, in milliseconds since 1970. */
    changedAt: Type.Optional(Type.Integer()),
    message: Type.Optional(Type.String()),
    runtimeId: Type.Optional(Type.String()),
    startedAt: Type.Optional(Type.Integer()),
    exitCode: Type.Optional(Type.Integer()),
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
})
export type Replica = ResourceOf<typeof replica>
