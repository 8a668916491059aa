import { type Explanation, pathOf } from './client.ts'
import { action, outputOption, type Register } from './context.ts'
import { usage } from './failure.ts'
import { print } from './output.ts'
import { getOne, kindNamed, splitReference } from './resources.ts'
import { isFailed, progress, reasons } from './wait.ts'

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
        print(world, format, explanation, () => {
          if (explanation.settled)
            return `${kind}/${it.name} is settled${isFailed(it) ? `, but failed: ${progress(it)}` : ''}\n`
          const why = reasons(explanation)
          const next = explanation.queue ? [`looked at next at ${explanation.queue.at}`] : []
          const doing = it.deletedAt === undefined ? 'is not settled' : 'is being deleted'
          return `${kind}/${it.name} ${doing}\n${[...why, ...next].map((one) => `  ${one}\n`).join('')}`
        })
      }),
    )
}
