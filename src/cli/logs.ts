import { pathOf } from './client.ts'
import { action, type Register, wholeNumber } from './context.ts'
import { EXIT, Failure } from './failure.ts'
import { replicaFor } from './replicas.ts'
import { linesOf } from './sse.ts'

const RECONNECTS_MAX = 10
const RECONNECT_MS = 1000

type Options = { follow?: boolean; tail?: number; replica?: number; timestamps?: boolean }
type Entry = {
  readonly cursor: string
  readonly at: string
  readonly stream: 'stdout' | 'stderr'
  readonly line: string
}

export const registerLogs: Register = (program, world, done) => {
  program
    .command('logs')
    .description(
      'print what a workload printed: standard output to standard output, errors to standard error',
    )
    .argument('<name>', 'a workload, or replica/NAME')
    .option('-f, --follow', 'go on as it prints more')
    .option('--tail <lines>', 'only the last lines', wholeNumber(0, 100_000))
    .option('--replica <index>', 'this replica, not the first that is ready', wholeNumber(0, 10_000))
    .option('-t, --timestamps', 'put the time before each line')
    .action(
      action<[string], Options>(
        world,
        done,
        async ({ client }, [name], { follow = false, tail, replica, timestamps = false }) => {
          const it = await replicaFor(client, name, replica)
          let after: string | undefined
          let hasBegun = false
          for (let breaks = 0; ;) {
            const before = after
            try {
              const query = { format: 'ndjson', follow, tail: after === undefined ? tail : undefined, after }
              const body = await client.stream(`${pathOf('replica', it.id)}/logs`, query, world.signal)
              hasBegun = true
              for await (const line of linesOf(body)) {
                if (line === '') continue
                const entry = JSON.parse(line) as Entry
                after = entry.cursor
                const out = entry.stream === 'stderr' ? world.stderr : world.stdout
                if (!out.write(`${timestamps ? `${entry.at} ` : ''}${entry.line}\n`))
                  await new Promise((resolve) => out.once('drain', resolve))
              }
              if (!follow) return
            } catch (error) {
              if (world.signal.aborted) return
              if (!follow) throw error
              if (error instanceof Failure && (error.exitCode !== EXIT.unreachable || !hasBegun)) throw error
            }
            // Only a connection that breaks gets here: a replica's log has no end while it exists.
            breaks = after === before ? breaks + 1 : 0
            if (breaks > RECONNECTS_MAX)
              throw new Failure(EXIT.unreachable, `the log of ${name} broke off ${breaks} times`)
            await world.clock.sleep(RECONNECT_MS, world.signal).catch(() => {})
            if (world.signal.aborted) return
          }
        },
      ),
    )
}
