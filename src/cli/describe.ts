import { type Explanation, pathOf, type Resource } from './client.ts'
import { stateOf } from './columns.ts'
import { action, outputOption, type Register } from './context.ts'
import { usage } from './failure.ts'
import { formatted, print, resourceTable } from './output.ts'
import { getOne, kindNamed, listAll, splitReference } from './resources.ts'
import { age, table } from './table.ts'
import { reasons } from './wait.ts'

const EVENTS = 20
const CHILDREN_MAX = 200

type Event = { readonly at: string; readonly what: string; readonly body: unknown }

const indented = (value: unknown): string =>
  formatted(value, 'yaml')
    .trimEnd()
    .split('\n')
    .map((line) => `  ${line}\n`)
    .join('')

const section = (title: string, body: string): string => (body === '' ? '' : `${title}:\n${body}`)

export const registerDescribe: Register = (program, world, done) => {
  program
    .command('describe')
    .description(
      'show one resource whole: wish, state, why it is not settled, what it owns, what happened to it',
    )
    .argument('<kind>', 'a kind, or KIND/NAME')
    .argument('[name]', 'name, <vpc>/<name>, or id')
    .addOption(outputOption())
    .action(
      action<[string, string | undefined], object>(world, done, async (context, [word, name]) => {
        const { client, format } = context
        const { kind: said, names } = splitReference([word, ...(name === undefined ? [] : [name])])
        const [reference] = names
        if (reference === undefined)
          throw usage('name the resource to describe', `for all of them: arcus get ${word}`)
        const kind = await kindNamed(client, said)
        const it = await getOne(client, kind, reference)
        const [explanation, events, children] = await Promise.all([
          client.get<Explanation>(`${pathOf(kind, it.id)}/explain`),
          client.get<{ items: readonly Event[] }>('/records/event', {
            subject: it.id,
            limit: EVENTS,
            newestFirst: true,
          }),
          kind === 'workload'
            ? listAll(client, 'replica', { term: `workload:${it.id}` }, CHILDREN_MAX)
            : { items: [] as Resource[] },
        ])
        const replicas = children.items.length ? await resourceTable(context, 'replica', children.items) : ''
        print(world, format, { ...it, explanation, events: events.items }, () =>
          describe(it, explanation, events.items, replicas, world.clock.now()),
        )
      }),
    )
}

function describe(
  it: Resource,
  explanation: Explanation,
  events: readonly Event[],
  replicas: string,
  nowMs: number,
): string {
  const why = explanation.settled ? [] : reasons(explanation)
  const head: [string, string][] = [
    ['Name', it.name],
    ['Kind', it.kind],
    ['Id', it.id],
    ['Tenant', it.tenant],
    ['State', `${stateOf(it)}${it.settled ? '' : ', not settled'}`],
    ['Age', `${age(it.createdAt, nowMs)} (since ${it.createdAt})`],
    ...(it.deletedAt === undefined ? [] : [['Deleting', `since ${it.deletedAt}`] as [string, string]]),
    ...Object.entries(it.labels).map(([key, value]): [string, string] => ['Label', `${key}=${value}`]),
    ...why.map((reason): [string, string] => ['Waiting', reason]),
  ]
  return (
    head.map(([title, value]) => `${`${title}:`.padEnd(10)}${value}\n`).join('') +
    section('Spec', indented(it.spec)) +
    section('Status', Object.keys(it.status).length ? indented(it.status) : '') +
    section('Replicas', replicas) +
    section(
      'Events',
      events.length
        ? table(
            ['AGE', 'WHAT', 'DETAIL'],
            events.map((one) => [age(one.at, nowMs), one.what, JSON.stringify(one.body)]),
          )
        : '',
    )
  )
}
