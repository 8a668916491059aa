import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Facts, JUDGE_MS, planContainer, type Real, type Step } from './plan.ts'
import { testHeld, testReal } from './wish.testing.ts'
import type { Held } from './wishes.ts'

const T0 = Date.parse('2026-01-01T00:00:10Z')
const RETRY_MS = 1000
const FACTS: Facts = {
  now: T0,
  recipe: 'recipe',
  fetched: true,
  retryAt: undefined,
  discarding: false,
  diedAt: undefined,
  crashes: 0,
  lacksIpv6: false,
}
type Situation = { readonly held: Held | undefined; readonly reals: readonly Real[]; readonly facts: Facts }
const at = (held: Held | undefined, reals: readonly Real[], more: Partial<Facts> = {}): Situation => ({
  held,
  reals,
  facts: { ...FACTS, ...more },
})
const exited = (change: Partial<Real> = {}): Real =>
  testReal({ status: 'exited', finishedAt: '2026-01-01T00:00:09.000000000Z', exitCode: 3, ...change })
const unrunnable = exited({
  startedAt: '2026-01-01T00:00:09.000000000Z',
  finishedAt: '2026-01-01T00:00:09.100000000Z',
  exitCode: 127,
})

/**
 * A situation for each step that does something; a new step does not compile until it stands here. `itself`: it changes
 * only what the agent keeps, so that what it failed at is planned again at once.
 */
const SITUATIONS: {
  readonly [S in Exclude<Step['do'], 'rest' | 'wait'>]: Situation & { readonly itself?: true }
} = {
  fetch: at(testHeld(), [], { fetched: false }),
  create: at(testHeld(), []),
  start: at(testHeld(), [testReal({ status: 'created' })]),
  stop: at(testHeld({}, { attempt: 2 }), [testReal()]),
  discard: at(testHeld({}, { attempt: 2 }), [exited()]),
  update: at(testHeld(), [testReal({ memory: 1 })]),
  giveIpv6: at(testHeld(), [testReal()], { lacksIpv6: true }),
  pause: at(testHeld({}, { power: 'paused' }), [testReal()]),
  unpause: at(testHeld(), [testReal({ status: 'paused' })]),
  judge: {
    ...at(testHeld({ starts: 2 }, { healing: false }), [exited()], { diedAt: T0 - JUDGE_MS }),
    itself: true,
  },
  fail: { ...at(testHeld({ starts: 1 }), [unrunnable], { diedAt: T0 }), itself: true },
  forget: { ...at(testHeld({ removing: true }), []), itself: true },
}

for (const [name, { held, reals, facts, itself }] of Object.entries(SITUATIONS))
  test(`${name} that failed is planned again, and nothing else before it`, () => {
    const step = planContainer(held, reals, facts)
    assert.equal(step.do, name)
    const failed = { ...facts, retryAt: facts.now + RETRY_MS }
    const meanwhile = planContainer(held, reals, failed)
    if (itself) assert.ok(meanwhile.do === 'wait' || meanwhile.do === name, meanwhile.do)
    else assert.deepEqual(meanwhile, { do: 'wait', untilMs: facts.now + RETRY_MS })
    const then = planContainer(held, reals, { ...failed, now: facts.now + RETRY_MS })
    assert.deepEqual(then, step)
  })
