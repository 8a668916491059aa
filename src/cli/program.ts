import { Command, CommanderError } from 'commander'
import { registerApply } from './apply.ts'
import { registerCompletion } from './completion.ts'
import type { Register } from './context.ts'
import { registerDelete } from './delete.ts'
import { registerDescribe } from './describe.ts'
import { registerExec } from './exec.ts'
import { registerExplain } from './explain.ts'
import { EXIT, Failure } from './failure.ts'
import { registerGet } from './get.ts'
import { registerHistory } from './history.ts'
import { registerKinds } from './kinds.ts'
import { registerLeaks } from './leaks.ts'
import { registerLogin } from './login.ts'
import { registerLogs } from './logs.ts'
import { registerRestart } from './restart.ts'
import { registerStart } from './start.ts'
import { registerStats } from './stats.ts'
import { registerTenants } from './tenants.ts'
import { registerTunnel } from './tunnel.ts'
import { registerUsage } from './usage.ts'
import { registerWatch } from './watch.ts'
import { registerWhoami } from './whoami.ts'
import type { World } from './world.ts'

const COMMANDS: readonly Register[] = [
  registerGet,
  registerDescribe,
  registerApply,
  registerDelete,
  registerWatch,
  registerExplain,
  registerHistory,
  registerRestart,
  registerStart,
  registerLogs,
  registerExec,
  registerStats,
  registerTunnel,
  registerUsage,
  registerLeaks,
  registerKinds,
  registerTenants,
  registerLogin,
  registerWhoami,
  registerCompletion,
]

const AFTER_HELP = `
The cloud is found by --url, ARCUS_URL, what login kept, or at http://127.0.0.1:8080; the token by --token, ARCUS_TOKEN,
what login kept, or, as root on the cloud's own machine, by its administrator's file.

Exit codes: 0 done, 1 refused, 2 wrong use, 3 cannot reach the cloud, 4 not settled in the time given to --wait.`

/** Runs one command line and gives its exit code; what it says is on the world's standard output and error. */
export async function runCli(args: readonly string[], world: World): Promise<number> {
  let code: number = EXIT.ok
  const program = new Command('arcus')
    .description('Use a cloud of your own.')
    .option('--url <url>', 'address of the cloud')
    .option(
      '--token <token>',
      'token; rather use ARCUS_TOKEN or arcus login, since others on the machine can see arguments',
    )
    .option('--tenant <name>', 'tenant to act in, by name or id; for administrators')
    .option('--ca <file>', "certificate of the authority that signs the cloud's")
    .showHelpAfterError('(add --help for how to use it)')
    .addHelpText('after', AFTER_HELP)
    .configureOutput({
      writeOut: (text) => void world.stdout.write(text),
      writeErr: (text) => void world.stderr.write(text),
    })
  exitingByThrow(program)
  for (const register of COMMANDS) register(program, world, (given) => (code = given))
  for (const command of program.commands) exitingByThrow(command)
  try {
    await program.parseAsync([...args], { from: 'user' })
    return code
  } catch (error) {
    return failed(error, world)
  }
}

/** Commands inherit it only from a program that had it when they were made; nested ones never do. */
function exitingByThrow(command: Command): void {
  command.exitOverride()
  for (const one of command.commands) exitingByThrow(one)
}

function failed(error: unknown, world: World): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
  if (world.signal.aborted) return EXIT.refused
  if (error instanceof Failure) {
    world.stderr.write(`error: ${error.message}\n${error.hint === undefined ? '' : `  ${error.hint}\n`}`)
    return error.exitCode
  }
  // Ours to mend, so it is shown whole.
  world.stderr.write(`error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
  return EXIT.refused
}
