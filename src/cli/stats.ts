import { type Client, pathOf, type Resource } from './client.ts'
import { action, outputOption, type Register } from './context.ts'
import { print, say } from './output.ts'
import { replicaFor, replicasOf } from './replicas.ts'
import { getOne, listAll } from './resources.ts'
import { age, bytes, table } from './table.ts'

const REPLICAS_MAX = 200
/** Samples asked for at once. */
const AT_ONCE = 8

type Sample = {
  readonly at: string
  readonly cpuMillicores: number
  readonly memoryBytes: number
  readonly receivedBytes: number
  readonly sentBytes: number
}

export const registerStats: Register = (program, world, done) => {
  program
    .command('stats')
    .description('show what replicas use: CPU, memory, network')
    .argument('[name]', 'a workload, or replica/NAME; all replicas when absent')
    .addOption(outputOption())
    .action(
      action<[string | undefined], object>(world, done, async ({ client, format }, [name]) => {
        const replicas = await wanted(client, name)
        const items: { replica: string; id: string; sample: Sample | null }[] = []
        for (let at = 0; at < replicas.length; at += AT_ONCE)
          items.push(
            ...(await Promise.all(
              replicas.slice(at, at + AT_ONCE).map(async (it) => ({
                replica: it.name,
                ...(await client.get<{ id: string; sample: Sample | null }>(
                  `${pathOf('replica', it.id)}/stats`,
                )),
              })),
            )),
          )
        print(world, format, { items }, () =>
          table(
            ['REPLICA', 'CPU', 'MEMORY', 'RECEIVED', 'SENT', 'AGE'],
            items.map(({ replica, sample }) =>
              sample
                ? [
                    replica,
                    `${Math.round(sample.cpuMillicores)}m`,
                    bytes(sample.memoryBytes),
                    bytes(sample.receivedBytes),
                    bytes(sample.sentBytes),
                    age(sample.at, world.clock.now()),
                  ]
                : [replica, '-', '-', '-', '-', '-'],
            ),
          ),
        )
        if (items.length === 0) say(world, 'no replica here')
      }),
    )
}

async function wanted(client: Client, name: string | undefined): Promise<readonly Resource[]> {
  if (name === undefined) return (await listAll(client, 'replica', { deleted: 'false' }, REPLICAS_MAX)).items
  if (/^replicas?\//.test(name)) return [await replicaFor(client, name, undefined)]
  return await replicasOf(client, (await getOne(client, 'workload', name)).id)
}
