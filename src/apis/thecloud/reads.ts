import { randomUUID } from 'node:crypto'
import Type, { type Static, type TSchema } from 'typebox'
import type { Caller } from '#cloud/access.ts'
import type { Kind } from '#engine/kind.ts'
import type { Resource } from '#engine/resource.ts'
import { vpc } from '#cloud/network/vpc.kind.ts'
import { INVALID_INPUT } from './errors.ts'
import type { Tenancy } from './doors.ts'
import { byId } from './lookup.ts'
import { type Frame, type Operation, operation } from './operation.ts'
import { Message, Uuid } from './schema.ts'

/** What answers as done waits this long to see it done. */
export const DONE_MS_MAX = 5000

/** A family of one kind: how it is called and shown. */
export type Family<S extends TSchema, T extends TSchema, A extends TSchema> = {
  readonly tag: string
  readonly path: string
  /** `required` unless told. */
  readonly tenancy?: Tenancy
  readonly kind: Kind<S, T>
  readonly noun: string
  readonly answer: A
  /** Some of them as they are shown. */
  encode(
    caller: Caller,
    all: readonly Resource<Static<S>, Static<T>>[],
  ): readonly Static<A>[] | Promise<readonly Static<A>[]>
}

/** A resource as it is shown. */
export async function shown<S extends TSchema, T extends TSchema, A extends TSchema>(
  of: Family<S, T, A>,
  caller: Caller,
  it: Resource<Static<S>, Static<T>>,
): Promise<Static<A>> {
  const [only] = await of.encode(caller, [it])
  return only as Static<A>
}

/** The same of what was made or changed just now, as soon as it is in force or some seconds have passed. */
export async function shownDone<S extends TSchema, T extends TSchema, A extends TSchema>(
  { cloud }: Frame,
  of: Family<S, T, A>,
  caller: Caller,
  it: Resource<Static<S>, Static<T>>,
): Promise<Static<A>> {
  return await shown(of, caller, (await cloud.settled(caller, of.kind, it.id, DONE_MS_MAX)) ?? it)
}

/** Serves the list of a family, oldest first; with `vpc_id` those of one VPC, which the query may leave out or not. */
export function listing<S extends TSchema, T extends TSchema, A extends TSchema>(
  frame: Frame,
  of: Family<S, T, A>,
  { id, summary, vpcId }: { id: string; summary: string; vpcId?: 'optional' | 'required' },
): void {
  const { cloud } = frame
  operation(frame, {
    tag: of.tag,
    method: 'GET',
    path: of.path,
    id,
    summary,
    ...(vpcId ? { query: { vpc_id: vpcId === 'required' ? Uuid : Type.Optional(Uuid) } } : {}),
    answer: Type.Array(of.answer),
    remembered: true,
    // The contract has no 404 here.
    refusals: { not_found: INVALID_INPUT },
    async run({ caller, query }) {
      const { vpc_id: within } = query as { vpc_id?: string }
      const terms = within === undefined ? [] : [`vpc:${await vpcOf(frame, caller, within)}`]
      return (await of.encode(caller, await cloud.all(caller, of.kind, { terms, deleted: false }))) as never
    },
  })
}

/** Serves one of a family, by its id. */
export function reading<S extends TSchema, T extends TSchema, A extends TSchema>(
  frame: Frame,
  of: Family<S, T, A>,
  { id, summary }: { id: string; summary: string },
): void {
  operation(frame, {
    tag: of.tag,
    tenancy: of.tenancy ?? 'required',
    method: 'GET',
    path: `${of.path}/:id`,
    id,
    summary,
    params: { id: Uuid },
    answer: of.answer,
    remembered: true,
    refuses: [404],
    run: async ({ caller, params }) =>
      (await shown(of, caller, await byId(frame.cloud, caller, of.kind, params.id, of.noun))) as never,
  })
}

/** Serves the deletion of one of a family, by its id: answered with a message, or without a body where there is none. */
export function removing<S extends TSchema, T extends TSchema, A extends TSchema>(
  frame: Frame,
  of: Family<S, T, A>,
  how: {
    readonly id: string
    readonly summary: string
    /** Name of the act in the audit. */
    readonly act: string
    readonly message?: string
  } & Pick<Operation<never, never, never, never>, 'refuses' | 'refusals'>,
): void {
  const { id, summary, act, message, refuses = [404], refusals } = how
  const { cloud } = frame
  operation(frame, {
    tag: of.tag,
    tenancy: of.tenancy ?? 'required',
    method: 'DELETE',
    path: `${of.path}/:id`,
    id,
    summary,
    params: { id: Uuid },
    ...(message === undefined ? { status: 204 as const } : { answer: Message(message) }),
    refuses,
    ...(refusals ? { refusals } : {}),
    async run({ caller, params }) {
      const it = await byId(cloud, caller, of.kind, params.id, of.noun)
      await cloud.act(caller, act, (verbs) => verbs.remove(of.kind, it.id))
      return (message === undefined ? undefined : { message }) as never
    },
  })
}

const NAME_DIGITS = 8
/** A name for what has none in this dialect. */
export const nameFor = (prefix: string): string => `${prefix}-${randomUUID().slice(0, NAME_DIGITS)}`

/** The id of a VPC of the tenant that a body names, `not_found` when there is none. */
export const vpcOf = async ({ cloud }: Frame, caller: Caller, id: string): Promise<string> =>
  (await byId(cloud, caller, vpc, id, 'VPC')).id
