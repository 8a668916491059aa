import { type Explanation, pathOf, type Resource } from './client.ts'
import { arrivedOf } from './columns.ts'
import { action, outputOption, type Register } from './context.ts'
import { usage } from './failure.ts'
import { print } from './output.ts'
import { getOne, kindNamed, splitReference } from './resources.ts'
import { isFailed, progress, reasons } from './wait.ts'

/** The first line says how it stands, the rest why, until when, and what to do. */
function explained(label: string, it: Resource, how: Explanation): string {
  const lines: string[] = []
  if (how.settled) lines.push(`${label} is settled${isFailed(it) ? `, but failed: ${progress(it)}` : ''}`)
  else lines.push(`${label} ${it.deletedAt === undefined ? 'is not settled' : 'is being deleted'}`)
  const say = (title: string, text: string | undefined): void => {
    if (text !== undefined && text !== '') lines.push(`  ${`${title}:`.padEnd(9)}${text}`)
  }
  if (!how.settled) {
    say('state', `${how.state}${how.since === undefined ? '' : ` since ${how.since}`}`)
    if (how.overdue === undefined) say('overdue', how.settleBy && `at ${how.settleBy}`)
    for (const one of reasons(how)) say('waits', one)
    say('arrived', arrivedOf(it))
    say('next', how.queue && `looked at again at ${how.queue.at}`)
  } else if (how.advice !== undefined) {
    say('state', how.state)
    say('why', how.message)
  }
  say('do', how.advice)
  say('see', how.page)
  return `${lines.join('\n')}\n`
}

export const registerExplain: Register = (program, world, done) => {
  program
    .command('explain')
    .description('say why a resource is not settled')
    .argument('<kind>', 'a kind, or KIND/NAME')
    .argument('[name]', 'name, <vpc>/<name>, or id')
    .addOption(outputOption())
    .action(
      action<[string, string | undefined], object>(world, done, async ({ client, format }, [word, name]) => {
        const { kind: said, names } = splitReference([word, ...(name === undefined ? [] : [name])])
        const [reference] = names
        if (reference === undefined) throw usage('name the resource to explain')
        const kind = await kindNamed(client, said)
        const it = await getOne(client, kind, reference)
        const explanation = await client.get<Explanation>(`${pathOf(kind, it.id)}/explain`)
        print(world, format, explanation, () => explained(`${kind}/${it.name}`, it, explanation))
      }),
    )
}
