import { type Client, pathOf, type Resource } from './client.ts'
import { itemsOf, readDocument, sourceOf } from './apply.ts'
import { action, outputOption, type Register, waitOption } from './context.ts'
import { isMissing, usage } from './failure.ts'
import { print, say } from './output.ts'
import { getOne, kindNamed, splitReference } from './resources.ts'
import { waitFor } from './wait.ts'

type Options = { file?: string; dryRun?: boolean; wait?: number; ignoreMissing?: boolean }
type Wanted = { readonly kind: string; readonly reference: string }

/** What a document names, in the order in which it can go: what was made last goes first. */
function fromDocument(text: string, from: string): Wanted[] {
  return itemsOf(text, from)
    .map(({ kind, name, spec }) => {
      const { vpc } = (spec ?? {}) as { vpc?: unknown }
      return { kind, reference: typeof vpc === 'string' ? `${vpc}/${name}` : name }
    })
    .toReversed()
}

/** The resource, undefined when it is not there and that is fine. */
async function find(
  client: Client,
  { kind, reference }: Wanted,
  ignoreMissing: boolean,
): Promise<Resource | undefined> {
  try {
    return await getOne(client, kind, reference)
  } catch (error) {
    if (ignoreMissing && isMissing(error)) return undefined
    throw error
  }
}

export const registerDelete: Register = (program, world, done) => {
  program
    .command('delete')
    .description('ask for the deletion of resources; with --wait until the real things are gone')
    .argument('[kind]', 'a kind, or KIND/NAME')
    .argument('[names...]', 'names, <vpc>/<name>, or ids')
    .option('-f, --file <file>', 'delete what a document names; - for standard input')
    .option('--ignore-missing', 'what is not there is fine')
    .option('--dry-run', 'check everything, write nothing')
    .addOption(waitOption('all of it is gone'))
    .addOption(outputOption())
    .action(
      action<[string | undefined, string[]], Options>(
        world,
        done,
        async ({ client, format }, [word, given], options) => {
          const { file, dryRun = false, wait, ignoreMissing = file !== undefined } = options
          if ((file === undefined) === (word === undefined))
            throw usage('name what to delete: KIND NAME..., or -f FILE')
          let wanted: Wanted[]
          if (file === undefined) {
            const { kind: said, names } = splitReference([word ?? '', ...given])
            if (names.length === 0) throw usage(`name the ${said} to delete`, `arcus get ${said} shows them`)
            const kind = await kindNamed(client, said)
            wanted = names.map((reference) => ({ kind, reference }))
          } else wanted = fromDocument(await readDocument(world, file), sourceOf(file))
          // All are looked up first: a VPC takes what is in it along, and then a name in it means nothing.
          const found = []
          for (const one of wanted) found.push(await find(client, one, ignoreMissing))
          const marked: Resource[] = []
          for (const it of found) {
            if (!it) continue
            marked.push(await client.send<Resource>('DELETE', pathOf(it.kind, it.id), undefined, { dryRun }))
            if (format === 'table')
              world.stdout.write(
                `${it.kind}/${it.name} ${dryRun ? 'would be deleted' : 'is being deleted'}\n`,
              )
          }
          if (wait !== undefined && !dryRun)
            await waitFor(
              client,
              world,
              marked.map((it) => ({ kind: it.kind, id: it.id, name: it.name, until: 'gone' })),
              wait,
            )
          if (format === 'name') world.stdout.write(marked.map((it) => `${it.kind}/${it.name}\n`).join(''))
          else if (format !== 'table') print(world, format, { items: marked }, () => '')
          if (dryRun) say(world, 'nothing was written')
        },
      ),
    )
}
