import { stringify } from 'yaml'
import type { Client, Resource } from './client.ts'
import { REFERRED, rowsOf, severalTenants } from './columns.ts'
import { listAll } from './resources.ts'
import { table } from './table.ts'
import type { World } from './world.ts'

/** Names looked up for a table; where there are more, some ids stay ids. */
const NAMES_MAX = 1000

export const FORMATS = ['table', 'json', 'yaml', 'name'] as const
export type Format = (typeof FORMATS)[number]

/** A value as JSON or YAML text. */
export const formatted = (value: unknown, format: 'json' | 'yaml'): string =>
  format === 'json'
    ? `${JSON.stringify(value, null, 2)}\n`
    : stringify(value, { lineWidth: 0, aliasDuplicateObjects: false })

/** Prints a value as data, or what `asTable` makes of it. */
export function print(world: World, format: Format, value: unknown, asTable: () => string): void {
  world.stdout.write(format === 'json' || format === 'yaml' ? formatted(value, format) : asTable())
}

/** A line for the person at the terminal, beside the output. */
export const say = (world: World, line: string): void => void world.stderr.write(`${line}\n`)

/** Names of what resources refer to and, where they are of several tenants, of those, for tables. */
async function namesFor(
  client: Client,
  kind: string,
  items: readonly Resource[],
): Promise<ReadonlyMap<string, string>> {
  if (items.length === 0) return new Map()
  const lists = await Promise.all(
    [...(REFERRED[kind] ?? []), ...(severalTenants(items) ? ['tenant'] : [])].map(
      async (it) => (await listAll(client, it, {}, NAMES_MAX)).items,
    ),
  )
  return new Map(lists.flat().map((it) => [it.id, it.name]))
}

/** Resources of one kind as a table, or their names. */
export async function resourceTable(
  { client, world }: { client: Client; world: World },
  kind: string,
  items: readonly Resource[],
  format: Format = 'table',
): Promise<string> {
  if (format === 'name') return items.map((it) => `${it.kind}/${it.name}\n`).join('')
  const { header, rows } = rowsOf(kind, items, {
    names: await namesFor(client, kind, items),
    nowMs: world.clock.now(),
  })
  return table(header, rows)
}
