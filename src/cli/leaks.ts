import { action, outputOption, type Register } from './context.ts'
import { print, say } from './output.ts'
import { age, table } from './table.ts'

type Leak = {
  readonly what: string
  readonly thing: string
  readonly culprit: string
  readonly since?: string
  readonly detail: string
  readonly mend: string
}

export const registerLeaks: Register = (program, world, done) => {
  program
    .command('leaks')
    .description('compare the records with the host, for administrators; exits with 1 when they differ')
    .option('--mend', 'put right what can be, now instead of at the next audit, and say what was found')
    .addOption(outputOption())
    .action(
      action<[], { mend?: boolean }>(world, done, async ({ client, format }, _, { mend }) => {
        const { items } = mend
          ? await client.send<{ items: readonly Leak[] }>('POST', '/leaks/mend')
          : await client.get<{ items: readonly Leak[] }>('/leaks')
        print(world, format, { items }, () => (items.length ? leaksTable(items, world.clock.now()) : ''))
        if (items.length === 0) say(world, 'no leaks: the host is as the records say')
        return items.length ? 1 : 0
      }),
    )
}

const leaksTable = (items: readonly Leak[], now: number): string =>
  table(
    ['WHAT', 'THING', 'OF', 'SEEN', 'DETAIL', 'MEND'],
    items.map((it) => [
      it.what,
      it.thing,
      it.culprit,
      it.since === undefined ? '' : age(it.since, now),
      it.detail,
      it.mend,
    ]),
  )
