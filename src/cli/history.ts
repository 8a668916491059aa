import { action, outputOption, type Register, wholeNumber } from './context.ts'
import { usage } from './failure.ts'
import { print } from './output.ts'
import { getOne, kindNamed, splitReference } from './resources.ts'
import { age, table } from './table.ts'

const SHOWN = 50
const SHOWN_MAX = 500

type Event = { readonly at: string; readonly what: string; readonly body: unknown }

export const registerHistory: Register = (program, world, done) => {
  program
    .command('history')
    .description('show what happened to a resource, the last first')
    .argument('<kind>', 'a kind, or KIND/NAME')
    .argument('[name]', 'name, <vpc>/<name>, or id')
    .option('-n, --limit <count>', `at most this many, ${SHOWN} unless told`, wholeNumber(1, SHOWN_MAX))
    .addOption(outputOption())
    .action(
      action<[string, string | undefined], { limit?: number }>(
        world,
        done,
        async ({ client, format }, [word, name], { limit = SHOWN }) => {
          const { kind: said, names } = splitReference([word, ...(name === undefined ? [] : [name])])
          const [reference] = names
          if (reference === undefined) throw usage('name the resource whose history to show')
          const { id } = await getOne(client, await kindNamed(client, said), reference)
          const { items } = await client.get<{ items: readonly Event[] }>('/records/event', {
            subject: id,
            limit,
            newestFirst: true,
          })
          print(world, format, { items }, () =>
            table(
              ['AGE', 'WHAT', 'DETAIL'],
              items.map((it) => [age(it.at, world.clock.now()), it.what, wordsOf(it.body)]),
            ),
          )
        },
      ),
    )
}

/** An event's body for people: its sentence when it has one, else its fields. */
function wordsOf(body: unknown): string {
  const fields = typeof body === 'object' && body !== null ? (body as Readonly<Record<string, unknown>>) : {}
  if (typeof fields['detail'] === 'string') return fields['detail']
  return Object.entries(fields)
    .map(([key, value]) => `${key} ${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(', ')
}
