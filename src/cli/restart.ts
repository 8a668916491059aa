import { pathOf, type Resource } from './client.ts'
import { action, type Register, waitOption } from './context.ts'
import { getOne } from './resources.ts'
import { waitFor } from './wait.ts'

type Options = { wait?: number }

export const registerRestart: Register = (program, world, done) => {
  program
    .command('restart')
    .description('replace every container of a workload by a new one; its addresses stay')
    .argument('<name>', 'a workload: name, <vpc>/<name>, or id')
    .addOption(waitOption('the new containers are ready'))
    .action(
      action<[string], Options>(world, done, async ({ client }, [name], { wait }) => {
        const { id } = await getOne(client, 'workload', name.replace(/^(workload|pod)s?\//, ''))
        const it = await client.send<Resource>('POST', `${pathOf('workload', id)}/restart`)
        world.stdout.write(`workload/${it.name} is being restarted\n`)
        if (wait !== undefined)
          await waitFor(client, world, [{ kind: 'workload', id, name: it.name, until: 'settled' }], wait)
      }),
    )
}
