import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { startBare } from './bare.ts'
import { startCloud } from './cloud.ts'
import type { Bench, Context } from './context.ts'
import { atMost, type Figure } from './figure.ts'
import { startFilled } from './growth.ts'
import { inTurn } from './rounds.ts'

const ROUTES = [{ method: 'GET', path: '/healthz', status: 200, answer: { status: 'ok' } }] as const

async function run({ scratch, scale }: Context): Promise<Figure[]> {
  const data = join(scratch, 'cloud')
  await (await startFilled(data, scale.few)).cloud[Symbol.asyncDispose]()
  const cloud = async () => await startCloud(data)
  const bare = async () => await startBare(ROUTES)
  const readyOf = (start: typeof cloud | typeof bare) => async () => {
    await using it = await start()
    return it.readyMs
  }
  const memoryOf = (start: typeof cloud | typeof bare) => async () => {
    await using it = await start()
    await pause(scale.idleMs)
    return it.memoryMb()
  }
  // Once before it counts: what was compiled is kept for the next start, of the cloud by what was done above.
  await readyOf(bare)()
  return [
    {
      bench: 'starts',
      what: `start of the cloud to ready, ${scale.few.toLocaleString('en')} resources`,
      unit: 'ms',
      against: 'start of a bare fastify process to listening',
      aim: atMost('value', 400),
      ...(await inTurn(scale.starts, readyOf(cloud), readyOf(bare))),
    },
    {
      bench: 'starts',
      what: 'idle memory of the cloud, simulated drivers',
      unit: 'MB resident',
      against: 'a bare fastify process',
      aim: atMost('value', 130),
      ...(await inTurn(Math.min(2, scale.rounds), memoryOf(cloud), memoryOf(bare))),
    },
  ]
}

export const starts: Bench = {
  name: 'starts',
  about: 'start to ready on existing data, and idle memory',
  needs: [],
  run,
}
