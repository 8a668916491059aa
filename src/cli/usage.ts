import { action, outputOption, type Register } from './context.ts'
import { print } from './output.ts'
import { table } from './table.ts'

const DAYS_DEFAULT = 30
const DAY_MS = 86_400_000
const HOURS_DIGITS = 3

type Usage = {
  readonly from: string
  readonly to: string
  readonly replicas: readonly {
    readonly cpuMillicores: number
    readonly memoryMib: number
    readonly hours: number
  }[]
  readonly externalAddresses: { readonly hours: number }
}

export const registerUsage: Register = (program, world, done) => {
  program
    .command('usage')
    .description('show what the tenant used in a period: running replicas by class, external addresses')
    .option('--from <time>', `beginning, such as 2026-01-31T00:00:00Z; ${DAYS_DEFAULT} days ago if absent`)
    .option('--to <time>', 'end, not included; now if absent')
    .addOption(outputOption())
    .action(
      action<[], { from?: string; to?: string }>(world, done, async ({ client, format }, _, { from, to }) => {
        const query = new URLSearchParams({
          from: from ?? new Date(world.clock.now() - DAYS_DEFAULT * DAY_MS).toISOString(),
          ...(to === undefined ? {} : { to }),
        })
        const used = await client.get<Usage>(`/usage?${query}`)
        print(world, format, used, () =>
          table(
            ['WHAT', 'HOURS'],
            [
              ...used.replicas.map((it) => [
                `replica ${it.cpuMillicores}m ${it.memoryMib} MiB`,
                it.hours.toFixed(HOURS_DIGITS),
              ]),
              ['external address', used.externalAddresses.hours.toFixed(HOURS_DIGITS)],
            ],
          ),
        )
      }),
    )
}
