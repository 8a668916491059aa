import { stringify } from 'yaml'
import type { Client, Resource } from './client.ts'
import { REFERRED, rowsOf } from './columns.ts'
import { listAll } from './resources.ts'
import { table } from './table.ts'
import type { World } from './world.ts'

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

/** Names of what resources of a kind refer to, for tables. */
export async function namesFor(client: Client, kind: string): Promise<ReadonlyMap<string, string>> {
  const lists = await Promise.all(
    (REFERRED[kind] ?? []).map(async (it) => (await listAll(client, it, {}, 1000)).items),
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
    names: items.length ? await namesFor(client, kind) : new Map(),
    nowMs: world.clock.now(),
  })
  return table(header, rows)
}
