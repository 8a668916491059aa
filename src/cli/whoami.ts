import { action, outputOption, type Register } from './context.ts'
import { print } from './output.ts'

export type WhoAmI = {
  readonly scope: 'admin' | 'tenant'
  readonly role: string
  readonly subject: string
  readonly name: string | null
  readonly tenant: { readonly id: string; readonly name: string | null } | null
}

export const registerWhoami: Register = (program, world, done) => {
  program
    .command('whoami')
    .description('say whom the token stands for, and where')
    .addOption(outputOption())
    .action(
      action<[], object>(world, done, async ({ client, format }) => {
        const it = await client.get<WhoAmI>('/whoami')
        print(world, format, { url: client.connection.url, ...it }, () =>
          [
            ['Cloud', client.connection.url],
            [it.scope === 'admin' ? 'Administrator' : 'Subject', it.name ?? it.subject],
            ['Role', it.role],
            ['Tenant', it.tenant ? (it.tenant.name ?? it.tenant.id) : 'none; choose one with --tenant'],
          ]
            .map(([title, value]) => `${`${title}:`.padEnd(15)}${value}\n`)
            .join(''),
        )
      }),
    )
}
