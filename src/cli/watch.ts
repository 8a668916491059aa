import type { Resource } from './client.ts'
import { stateOf } from './columns.ts'
import { action, outputOption, type Register } from './context.ts'
import { EXIT, Failure } from './failure.ts'
import { getOne, kindNamed, splitReference } from './resources.ts'
import { eventsOf } from './sse.ts'

const RECONNECTS_MAX = 10
const RECONNECT_MS = 1000

type Change = {
  readonly kind: string
  readonly id: string
  readonly what: string
  readonly revision: number
  readonly resource?: Resource
}

const line = ({ kind, id, what, resource }: Change): string =>
  `${what.padEnd(8)}  ${kind}/${resource?.name ?? id}  ${resource ? `${stateOf(resource)}${resource.settled ? '' : ' (not settled)'}` : ''}`.trimEnd()

export const registerWatch: Register = (program, world, done) => {
  program
    .command('watch')
    .description('print changes as they happen, until interrupted; -o json prints one JSON object a line')
    .argument('[kind]', 'only of this kind, or KIND/NAME')
    .argument('[name]', 'only of this resource')
    .addOption(outputOption())
    .action(
      action<[string | undefined, string | undefined], object>(
        world,
        done,
        async ({ client, format }, [word, name]) => {
          const { kind: said, names } = splitReference([
            ...(word === undefined ? [] : [word]),
            ...(name === undefined ? [] : [name]),
          ])
          const kind = word === undefined ? undefined : await kindNamed(client, said)
          const [reference] = names
          const id =
            kind === undefined || reference === undefined
              ? undefined
              : (await getOne(client, kind, reference)).id
          const names_ = new Map<string, string>()
          let cursor: string | undefined
          for (let breaks = 0; !world.signal.aborted;) {
            const before = cursor
            try {
              const body = await client.stream(
                '/watch',
                { kind },
                world.signal,
                cursor === undefined ? {} : { 'last-event-id': cursor },
              )
              for await (const event of eventsOf(body)) {
                if (event.event === 'error')
                  throw new Failure(
                    EXIT.refused,
                    (JSON.parse(event.data) as { error: { message: string } }).error.message,
                  )
                cursor = event.id ?? cursor
                if (event.event !== 'change') continue
                const change = JSON.parse(event.data) as Change
                if (id !== undefined && change.id !== id) continue
                if (change.resource) names_.set(change.id, change.resource.name)
                const known = names_.get(change.id)
                world.stdout.write(
                  format === 'table' || format === 'name'
                    ? `${line(change).replace(change.resource ? '' : change.id, change.resource ? '' : (known ?? change.id))}\n`
                    : `${JSON.stringify(change)}\n`,
                )
              }
            } catch (error) {
              if (world.signal.aborted) return
              if (error instanceof Failure && (error.exitCode !== EXIT.unreachable || cursor === undefined))
                throw error
            }
            breaks = cursor === before ? breaks + 1 : 0
            if (breaks > RECONNECTS_MAX)
              throw new Failure(
                EXIT.unreachable,
                `the watch of ${client.connection.url} broke ${breaks} times`,
              )
            await world.clock.sleep(RECONNECT_MS, world.signal).catch(() => {})
          }
        },
      ),
    )
}
