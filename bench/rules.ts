import { join } from 'node:path'
import { SANDBOXED } from '../test/network/sandbox.ts'
import type { Bench, Context } from './context.ts'
import { atLeast, atMost, type Figure } from './figure.ts'
import { startProgram } from './process.ts'
import { inTurn } from './rounds.ts'
import { findTools, type Pair, throughput } from './wire.ts'

/** What the process with the VPC in it can be asked to do. */
export type RulesAsked = 'change' | 'beside' | 'check'

/** A change takes as long as so many samples of other benches. */
const SAMPLES_PER_CHANGE = 16

async function run({ scratch, scale, say }: Context): Promise<Figure[]> {
  const { trafficRounds: rounds, trafficSeconds: seconds, rules, instances } = scale
  const tools = await findTools({ say })
  const given = JSON.stringify({ scratch, rules, instances })
  await using host = await startProgram<{ to: string; bareTo: string }>(
    [join(import.meta.dirname, 'rules.process.ts'), given],
    SANDBOXED,
  )
  const ask = async (what: RulesAsked): Promise<number> => {
    const answer = await host.ask<{ ms: number } | { error: string }>(what)
    if ('error' in answer) throw new Error(answer.error)
    return answer.ms
  }
  const within = (name: string): string => `/proc/${host.pid}/root/run/netns/${name}`
  const ours: Pair = { from: within('from'), to: within('to'), address: host.ready.to }
  const bare: Pair = { from: within('bare-from'), to: within('bare-to'), address: host.ready.bareTo }
  const against = 'the same way by a router without any ruleset'
  const large = `${rules.toLocaleString('en')} rules and ${instances} instances`
  const forwarding = [
    {
      bench: 'rules',
      what: `TCP throughput in a VPC with ${large}`,
      unit: 'Gbit/s',
      against,
      aim: atLeast('ratio', 0.9),
      ...(await inTurn(
        rounds,
        async () => await throughput(ours, tools, seconds),
        async () => await throughput(bare, tools, seconds),
      )),
    },
  ]
  // What is compiled, and what was never written by hand, is not the same the first time.
  for (const it of ['change', 'beside'] as const) await ask(it)
  const changed: Figure = {
    bench: 'rules',
    what: `one changed rule of a VPC with ${large}, until it is in force`,
    unit: 'ms',
    against: '`nft -f` of one rule into the same table',
    aim: atMost('value', 50),
    ...(await inTurn(
      Math.ceil(scale.samples / SAMPLES_PER_CHANGE),
      async () => await ask('change'),
      async () => await ask('beside'),
    )),
  }
  await ask('check')
  return [changed, ...forwarding]
}

export const rules: Bench = {
  name: 'rules',
  about: 'one changed security group rule in a large VPC, and what its rules cost the traffic',
  needs: ['root'],
  run,
}
