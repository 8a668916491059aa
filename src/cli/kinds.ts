import { action, outputOption, type Register } from './context.ts'
import { print } from './output.ts'
import { kindsOf } from './resources.ts'
import { table } from './table.ts'

type Schema = { readonly properties?: Readonly<Record<string, unknown>> }

export const registerKinds: Register = (program, world, done) => {
  program
    .command('kinds')
    .description('list the kinds of resources; -o json shows their schemas')
    .addOption(outputOption())
    .action(
      action<[], object>(world, done, async ({ client, format }) => {
        const items = await kindsOf(client)
        print(world, format, { items }, () =>
          format === 'name'
            ? items.map((it) => `${it.name}\n`).join('')
            : table(
                ['KIND', 'SCOPE', 'SPEC'],
                items.map((it) => [
                  it.name,
                  it.scope,
                  Object.keys((it.spec as Schema).properties ?? {}).join(' '),
                ]),
              ),
        )
      }),
    )
}
