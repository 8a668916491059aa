import { pathOf, type Resource } from './client.ts'
import { action, type Register, waitOption } from './context.ts'
import { getOne } from './resources.ts'
import { waitFor } from './wait.ts'

type Options = { wait?: number }

const ACTIONS = [
  {
    verb: 'start',
    description: 'start a replica that was stopped or has ended, in a new container',
    until: 'it is ready',
    said: 'is being started',
  },
  {
    verb: 'stop',
    description: 'stop a replica until it is started; it keeps its addresses and gets no connections',
    until: 'its container is gone',
    said: 'is being stopped',
  },
] as const

export const registerStart: Register = (program, world, done) => {
  for (const { verb, description, until, said } of ACTIONS)
    program
      .command(verb)
      .description(description)
      .argument('<replica>', 'a replica: name, <vpc>/<name>, or id')
      .addOption(waitOption(until))
      .action(
        action<[string], Options>(world, done, async ({ client }, [name], { wait }) => {
          const { id } = await getOne(client, 'replica', name.replace(/^replicas?\//, ''))
          const it = await client.send<Resource>('POST', `${pathOf('replica', id)}/${verb}`)
          world.stdout.write(`replica/${it.name} ${said}\n`)
          if (wait !== undefined)
            await waitFor(client, world, [{ kind: 'replica', id, name: it.name, until: 'settled' }], wait)
        }),
      )
}
