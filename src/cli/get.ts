import { action, collect, outputOption, type Register, wholeNumber } from './context.ts'
import { usage } from './failure.ts'
import { print, resourceTable, say } from './output.ts'
import { getOne, kindNamed, listAll, LISTED_MAX, splitReference } from './resources.ts'

type Options = { selector?: string[]; term?: string[]; limit?: number }

export const registerGet: Register = (program, world, done) => {
  program
    .command('get')
    .description('list resources of a kind, or get some by name or id')
    .argument('<kind>', 'a kind (see: arcus kinds), or KIND/NAME')
    .argument('[names...]', 'names, <vpc>/<name>, or ids')
    .option('-l, --selector <key=value>', 'only with this label; may be repeated', collect)
    .option(
      '--term <term>',
      'only what matches an engine term such as state:running; may be repeated',
      collect,
    )
    .option('--limit <count>', 'at most this many', wholeNumber(1, LISTED_MAX))
    .addOption(outputOption())
    .action(
      action<[string, string[]], Options>(
        world,
        done,
        async (context, [word, given], { selector, term, limit }) => {
          const { client, format } = context
          const { kind: said, names } = splitReference([word, ...given])
          const kind = await kindNamed(client, said)
          if (names.length && (selector ?? term)) throw usage('give names or filters, not both')
          if (names.length) {
            const found = []
            for (const name of names) found.push(await getOne(client, kind, name))
            const text = await resourceTable(context, kind, found, format)
            print(world, format, found.length === 1 ? found[0] : { items: found }, () => text)
            return
          }
          const { items, total } = await listAll(client, kind, { label: selector, term }, limit)
          const text = items.length ? await resourceTable(context, kind, items, format) : ''
          print(world, format, { items, total }, () => text)
          if (items.length === 0 && format === 'table') say(world, `no ${kind} here`)
          if (items.length < total && limit === undefined)
            say(world, `the first ${items.length} of ${total}; narrow them with -l or --term`)
        },
      ),
    )
}
