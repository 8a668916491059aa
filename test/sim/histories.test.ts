import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { describe, test } from 'node:test'
import { type Outcome, playHistory, ROUGH } from './history.ts'
import { freshOf, ratchet } from './ratchet.ts'
import type { Line } from './replay.ts'
import { openSite } from './site.ts'
import { FAIR } from './world.ts'

const isSoak = process.env['ARCUS_SOAK'] === '1'
const SHORT = 220
const LONG = 10_000
/** Where the seeds of a run begin; another beginning plays other histories. */
const FIRST = Number(process.env['ARCUS_SEED'] ?? (isSoak ? 100_001 : 1))
const COUNT = isSoak ? LONG : SHORT
const PLAYERS_MAX = 4
/** Histories of one process: what one should leave behind does not add up. */
const PIECE = 250
const SHOWN_MAX = 10
/** By then each call has met with each trouble, with room to spare; it mostly has by a third of them. */
const ROUGH_COUNT_MAX = 72
const ROUGH_SIZE = 20

type Seeds = { readonly notable: readonly { readonly seed: number; readonly found: string }[] }
const SEEDS = JSON.parse(readFileSync(join(import.meta.dirname, 'seeds.json'), 'utf8')) as Seeds

const commandOf = (seed: number): string => `node_modules/.bin/node test/sim/replay.ts ${seed} --trace`

/** Plays seeds in processes of their own, each a share of them, piece by piece. */
async function playAll(first: number, count: number): Promise<Line[]> {
  const players = Math.min(PLAYERS_MAX, availableParallelism())
  const lines: Line[] = []
  const script = join(import.meta.dirname, 'replay.ts')
  const playPiece = async (at: number): Promise<void> => {
    const args = [
      script,
      String(first + at),
      '--count',
      String(Math.min(players * PIECE, count - at)),
      '--every',
      String(players),
      '--json',
    ]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    for await (const line of createInterface({ input: child.stdout })) lines.push(JSON.parse(line) as Line)
  }
  const play = async (n: number): Promise<void> => {
    for (let at = n; at < count; at += players * PIECE) await playPiece(at)
  }
  await Promise.all(Array.from({ length: players }, async (_, n) => await play(n)))
  return lines
}

function refuseWrongs(lines: readonly Pick<Line, 'seed' | 'wrongs'>[]): void {
  const failed = lines.filter((it) => it.wrongs.length)
  const shown = failed
    .slice(0, SHOWN_MAX)
    .map((it) => `${it.wrongs.join('\n')}\n  again: ${commandOf(it.seed)}`)
  assert.equal(failed.length, 0, `${failed.length} histories went wrong:\n${shown.join('\n\n')}`)
}

describe('histories', () => {
  test('seeds that once found something find nothing more', async () => {
    await using site = await openSite()
    const played = []
    for (const { seed } of SEEDS.notable) played.push(await playHistory(site, { seed }))
    refuseWrongs(played)
  })

  test('the same seed is the same history', async () => {
    await using site = await openSite()
    await using other = await openSite()
    const [one, two] = [await playHistory(site, { seed: FIRST }), await playHistory(other, { seed: FIRST })]
    assert.deepEqual(one.lines, two.lines)
    assert.equal(one.hash, two.hash)
    assert.notEqual((await playHistory(site, { seed: FIRST + 1 })).hash, one.hash)
  })

  test('a kill at any boundary of a commit loses nothing', async () => {
    await using site = await openSite()
    const weather = { ...FAIR, disturbedEveryMs: 0 }
    const how = { seed: 8, size: 5, weather, tenants: 1 }
    const whole = await playHistory(site, how)
    refuseWrongs([whole])
    const step = isSoak ? 1 : Math.max(1, Math.floor(whole.commits / 40))
    const kills = { before: 0, after: 0 }
    for (let commit = 1; commit <= whole.commits; commit += step)
      for (const when of ['before', 'after'] as const) {
        const it = await playHistory(site, { ...how, killAt: { commit, when } })
        assert.deepEqual(it.wrongs, [], `killed ${when} commit ${commit} of seed ${how.seed}`)
        kills[when] += it.kills
      }
    const tried = Math.ceil(whole.commits / step)
    assert.equal(kills.before, tried)
    // A commit that was refused, as that of a name that is taken, has no moment after it.
    assert.ok(kills.after > tried * 0.75, JSON.stringify({ ...kills, tried }))
  })

  test(`${COUNT} histories from seed ${FIRST} keep every promise`, async (t) => {
    const lines = await playAll(FIRST, COUNT)
    refuseWrongs(lines)
    assert.equal(lines.length, COUNT, 'a player ended before its last history')
    const sum = (of: (it: Line) => number): number => lines.reduce((total, it) => total + of(it), 0)
    const totals = {
      requests: sum((it) => it.requests),
      acknowledged: sum((it) => it.acknowledged),
      commits: sum((it) => it.commits),
      kills: sum((it) => it.kills),
    }
    t.diagnostic(JSON.stringify(totals))
    // A simulation in which little happens proves little.
    assert.ok(totals.acknowledged > 10 * COUNT && totals.kills > COUNT, JSON.stringify(totals))
  })

  test('every verb of every driver failed at each call', async () => {
    await using site = await openSite()
    const rough: Outcome[] = []
    const troubles = (): string[] => rough.flatMap((it) => [...it.troubles.keys()])
    for (let seed = 1; seed <= ROUGH_COUNT_MAX && (seed === 1 || freshOf(troubles()).length); seed++)
      rough.push(await playHistory(site, { seed, weather: ROUGH, size: ROUGH_SIZE }))
    refuseWrongs(rough)
    ratchet(troubles())
  })
})
