// The CLI's entry, run by ./arcus: takes from the process what a command may use, and ends with its exit code.
import { homedir } from 'node:os'
import process from 'node:process'
import { systemClock } from '#lib/clock.ts'
import { EXIT } from './failure.ts'
import { runCli } from './program.ts'

const ADMIN_FILE = '/var/lib/arcus/cloud/admin.json'

const interrupted = new AbortController()
// A second interrupt ends a command that does not end by itself.
process.once('SIGINT', () => interrupted.abort(new Error('interrupted')))
process.once('SIGTERM', () => interrupted.abort(new Error('terminated')))
/** Ends the command for what could not be printed, such as on a full disk. */
function lost(error: NodeJS.ErrnoException): never {
  // Whoever read has seen enough (`arcus get … | head`).
  if (error.code === 'EPIPE') process.exit(0)
  process.stderr.write(`error: the output cannot be written: ${error.message}\n`)
  process.exit(EXIT.refused)
}
for (const out of [process.stdout, process.stderr]) out.on('error', lost)

const { env, argv, stdin, stdout, stderr } = process
const code = await runCli(argv.slice(2), {
  env,
  home: homedir(),
  adminFile: ADMIN_FILE,
  stdin,
  stdout,
  stderr,
  clock: systemClock,
  signal: interrupted.signal,
})
// Connections that are kept alive must not keep a finished command; what was written goes out first. Of what could not be
// this hears before the event does.
stdout.write('', (error) => stderr.write('', () => (error ? lost(error) : process.exit(code))))
