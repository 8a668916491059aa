import { pathOf, type Resource } from './client.ts'
import { readConfig, writeConfig } from './config.ts'
import { action, outputOption, type Register } from './context.ts'
import { EXIT, Failure } from './failure.ts'
import { print, resourceTable, say } from './output.ts'
import { readSecret } from './prompt.ts'
import { getOne, listAll } from './resources.ts'

const SUSPENSION = [
  {
    word: 'suspend',
    suspended: true,
    effect: 'let its callers look and change nothing; what it has runs on',
  },
  { word: 'resume', suspended: false, effect: 'end a suspension' },
]

type Create = { description?: string; passwordStdin?: boolean }

export const registerTenants: Register = (program, world, done) => {
  const tenants = program
    .command('tenants')
    .description('list, create, choose, suspend and resume tenants, for administrators')

  tenants
    .command('list')
    .description('list tenants')
    .addOption(outputOption())
    .action(
      action<[], object>(world, done, async (context) => {
        const { items, total } = await listAll(context.client, 'tenant')
        const text = await resourceTable(context, 'tenant', items, context.format)
        print(world, context.format, { items, total }, () => text)
      }),
    )

  tenants
    .command('create')
    .description('create a tenant and print its token, this once')
    .argument('<name>')
    .option('--description <text>')
    .option(
      '--password-stdin',
      'also make a user named like the tenant, with this password from standard input',
    )
    .addOption(outputOption())
    .action(
      action<[string], Create>(
        world,
        done,
        async ({ client, format }, [name], { description, passwordStdin = false }) => {
          const password = passwordStdin ? await readSecret(world) : undefined
          const it = await client.send<Resource & { token: string }>('POST', '/tenant', {
            name,
            spec: { description, password },
          })
          print(world, format, it, () => (format === 'name' ? `tenant/${it.name}\n` : `${it.token}\n`))
          if (format !== 'table') return
          say(world, `tenant/${it.name} created; above is its token, which is shown this once`)
          say(world, `to act in it as an administrator: --tenant ${it.name}, or arcus tenants use ${it.name}`)
        },
      ),
    )

  for (const { word, suspended, effect } of SUSPENSION)
    tenants
      .command(word)
      .description(effect)
      .argument('<name>', 'name or id')
      .addOption(outputOption())
      .action(
        action<[string], object>(world, done, async ({ client, format }, [name]) => {
          const it = await client.send<Resource>('PATCH', pathOf('tenant', name), { spec: { suspended } })
          const what = format === 'name' ? '' : suspended ? ' suspended' : ' resumed'
          print(world, format, it, () => `tenant/${it.name}${what}\n`)
        }),
      )

  tenants
    .command('use')
    .description('act in this tenant from now on')
    .argument('<name>', 'name or id; - for none')
    .action(
      action<[string], object>(world, done, async ({ client }, [name]) => {
        const { token, url, ca } = client.connection
        if (token === undefined)
          throw new Failure(EXIT.refused, 'you are not logged in', 'log in with: arcus login')
        const chosen = name === '-' ? undefined : await getOne(client, 'tenant', name)
        const kept = await readConfig(world)
        // What was kept by login stays; else the choice would be worth nothing without the token it was made with.
        await writeConfig(world, {
          url,
          ...(ca === undefined ? {} : { ca }),
          token: kept.url === url ? (kept.token ?? token) : token,
          ...(chosen ? { tenant: chosen.id } : {}),
        })
        say(world, chosen ? `acting in ${chosen.name}` : 'acting in no tenant')
      }),
    )
}
