import { readFile } from 'node:fs/promises'
import { parseAllDocuments } from 'yaml'
import { messageOf } from '#lib/errors.ts'
import type { Resource } from './client.ts'
import { action, outputOption, type Register, waitOption } from './context.ts'
import { usage } from './failure.ts'
import { print, say } from './output.ts'
import { waitFor } from './wait.ts'
import type { World } from './world.ts'

/** Most bytes a document may have; the server takes no more. */
const DOCUMENT_BYTES_MAX = 1_048_576

export type Item = {
  readonly kind: string
  readonly name: string
  readonly labels?: unknown
  readonly spec?: unknown
}
type Applied = {
  readonly items: readonly { kind: string; name: string; id: string; action: string; resource: Resource }[]
}
type Options = { file: string; dryRun?: boolean; wait?: number }

/** The text of a file, or of standard input for `-`. */
export async function readDocument(world: World, file: string): Promise<string> {
  if (file !== '-') {
    try {
      return await readFile(file, 'utf8')
    } catch (error) {
      throw usage(`cannot read ${file}: ${messageOf(error)}`)
    }
  }
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of world.stdin as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > DOCUMENT_BYTES_MAX) throw usage(`the document is larger than ${DOCUMENT_BYTES_MAX} bytes`)
    chunks.push(Buffer.from(chunk))
  }
  return Buffer.concat(chunks).toString('utf8')
}

/**
 * The resources of a YAML or JSON document: a list, `{resources: […]}`, `{items: […]}` as `get -o yaml` prints it, or
 * one resource per YAML document. What only the platform says (id, status and so on) is left out.
 */
export function itemsOf(text: string, from: string): readonly Item[] {
  const documents = parseAllDocuments(text)
  const items: unknown[] = []
  for (const document of documents) {
    const [error] = document.errors
    if (error) throw usage(`${from} is not YAML or JSON: ${error.message}`)
    const value: unknown = document.toJS({ maxAliasCount: 100 })
    if (value === null || value === undefined) continue
    const { resources, items: listed } = value as { resources?: unknown; items?: unknown }
    const list = Array.isArray(value) ? (value as unknown[]) : (resources ?? listed ?? [value])
    if (!Array.isArray(list)) throw usage(`${from}: resources must be a list`)
    items.push(...(list as unknown[]))
  }
  if (items.length === 0) throw usage(`${from} names no resource`, 'a resource has a kind, a name and a spec')
  return items.map((it, at) => {
    const { kind, name, labels, spec } = (it ?? {}) as Record<string, unknown>
    const where = `resource ${at + 1} of ${from}`
    if (typeof kind !== 'string' || kind === '') throw usage(`${where} has no kind`)
    if (typeof name !== 'string' || name === '') throw usage(`${where} (${kind}) has no name`)
    return {
      kind,
      name,
      ...(labels === undefined ? {} : { labels }),
      ...(spec === undefined ? {} : { spec }),
    }
  })
}

export const sourceOf = (file: string): string => (file === '-' ? 'standard input' : file)

export const registerApply: Register = (program, world, done) => {
  program
    .command('apply')
    .description(
      'create what a document names and is missing, change what differs, leave the rest: in one step',
    )
    .requiredOption('-f, --file <file>', 'a YAML or JSON document; - for standard input')
    .option('--dry-run', 'check everything, write nothing')
    .addOption(waitOption('everything in it is settled'))
    .addOption(outputOption())
    .action(
      action<[], Options>(world, done, async ({ client, format }, _, { file, dryRun = false, wait }) => {
        const resources = itemsOf(await readDocument(world, file), sourceOf(file))
        const { items } = await client.send<Applied>('POST', '/topology', { resources }, { dryRun })
        const lines = items
          .map((it) => `${it.kind}/${it.name} ${it.action}${dryRun ? ' (dry run)' : ''}\n`)
          .join('')
        if (format === 'table') world.stdout.write(lines)
        if (wait !== undefined && !dryRun) {
          const open = items.filter((it) => !it.resource.settled)
          await waitFor(
            client,
            world,
            open.map((it) => ({ kind: it.kind, id: it.id, name: it.name, until: 'settled' })),
            wait,
          )
        }
        if (format === 'name') world.stdout.write(items.map((it) => `${it.kind}/${it.name}\n`).join(''))
        else if (format !== 'table') print(world, format, { items }, () => '')
        if (dryRun) say(world, 'nothing was written')
      }),
    )
}
