import { action, outputOption, type Register } from './context.ts'
import { print, say } from './output.ts'
import { table } from './table.ts'

type Leak = {
  readonly what: string
  readonly kind: string
  readonly id: string
  readonly detail: string
  readonly mend: string
}

export const registerLeaks: Register = (program, world, done) => {
  program
    .command('leaks')
    .description('compare the records with the host, for administrators; exits with 1 when they differ')
    .addOption(outputOption())
    .action(
      action<[], object>(world, done, async ({ client, format }) => {
        const { items } = await client.get<{ items: readonly Leak[] }>('/leaks')
        print(world, format, { items }, () =>
          items.length
            ? table(
                ['WHAT', 'KIND', 'ID', 'DETAIL', 'MEND'],
                items.map((it) => [it.what, it.kind, it.id, it.detail, it.mend]),
              )
            : '',
        )
        if (items.length === 0) say(world, 'no leaks: the host is as the records say')
        return items.length ? 1 : 0
      }),
    )
}
