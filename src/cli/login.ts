import type { Command } from 'commander'
import { createClient } from './client.ts'
import { type Connection, type Flags, resolveConnection, writeConfig } from './config.ts'
import type { Register } from './context.ts'
import { usage } from './failure.ts'
import { say } from './output.ts'
import { ask, readSecret } from './prompt.ts'
import type { WhoAmI } from './whoami.ts'
import type { World } from './world.ts'

type Options = { username?: string; passwordStdin?: boolean; tokenStdin?: boolean }

export const registerLogin: Register = (program, world, done) => {
  program
    .command('login')
    .description(
      'log in and keep the token in ~/.config/arcus/config.json; passwords are asked for or piped in',
    )
    .option('-u, --username <name>', 'user name')
    .option('--password-stdin', 'read the password from standard input')
    .option('--token-stdin', 'keep a token from standard input, without a password')
    .action(async (options: Options, command: Command) => {
      await login(world, command.optsWithGlobals<Flags>(), options)
      done(0)
    })
}

async function login(world: World, flags: Flags, options: Options): Promise<void> {
  const place = await resolveConnection(flags, world)
  const token = await tokenFor(world, place, flags, options)
  const connection = { ...place, token }
  const who = await createClient(connection, world.signal).get<WhoAmI>('/whoami')
  const file = await writeConfig(world, connection)
  say(
    world,
    `logged in to ${connection.url} as ${who.name ?? who.subject}${who.scope === 'admin' ? ' (administrator)' : ''}; kept in ${file}`,
  )
}

async function tokenFor(world: World, place: Connection, flags: Flags, options: Options): Promise<string> {
  if (options.tokenStdin) return await readSecret(world)
  if (flags.token !== undefined) return flags.token
  const canAsk = world.stdin.isTTY && world.stderr.isTTY
  if (!canAsk && (options.username === undefined || !options.passwordStdin))
    throw usage('there is no terminal to ask at', 'give --username NAME --password-stdin, or --token-stdin')
  const username = options.username ?? (await ask(world, 'User name: '))
  const password = options.passwordStdin ? await readSecret(world) : await ask(world, 'Password: ', true)
  const anyone = { url: place.url, ...(place.ca === undefined ? {} : { ca: place.ca }) }
  const client = createClient(anyone, world.signal)
  return (await client.send<{ token: string }>('POST', '/login', { username, password })).token
}
