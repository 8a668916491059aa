import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import {
  type Activity,
  type Facts,
  JUDGE_MS,
  RESTART_BACKOFF,
  type Real,
  backoffMs,
  planContainer,
  viewOf,
} from './plan.ts'
import { testHeld, testReal } from './wish.testing.ts'

const T0 = Date.parse('2026-01-01T00:00:10Z')
const facts = (change: Partial<Facts> = {}): Facts => ({
  now: T0,
  recipe: 'recipe',
  fetched: true,
  retryAt: undefined,
  discarding: false,
  diedAt: undefined,
  crashes: 0,
  lacksIpv6: false,
  ...change,
})
const idle: Activity = {
  doing: undefined,
  progress: undefined,
  failing: false,
  message: undefined,
  healthy: undefined,
  discarding: false,
}
const ended = (change: Partial<Real> = {}): Real =>
  testReal({ status: 'exited', finishedAt: '2026-01-01T00:00:10.000000000Z', exitCode: 3, ...change })
const started = { starts: 2 }

describe('the next step for a container', () => {
  test('from nothing to running: image, container, start', () => {
    const held = testHeld()
    assert.equal(planContainer(held, [], facts({ recipe: undefined })).do, 'wait')
    assert.equal(planContainer(held, [], facts({ fetched: false })).do, 'fetch')
    assert.equal(planContainer(held, [], facts()).do, 'create')
    assert.equal(planContainer(held, [testReal({ status: 'created' })], facts()).do, 'start')
    assert.equal(planContainer(held, [testReal()], facts()).do, 'rest')
  })

  test('one that runs without its IPv6 is given it, one that ended is not', () => {
    const lacking = facts({ lacksIpv6: true })
    assert.deepEqual(planContainer(testHeld(), [testReal()], lacking), { do: 'giveIpv6', pid: 100 })
    assert.equal(planContainer(testHeld({ removing: true }), [testReal()], lacking).do, 'stop')
    assert.equal(planContainer(testHeld(), [ended()], lacking).do, 'start')
  })

  test('one that Docker was killed while making is made anew, whatever is to be kept', () => {
    const half = testReal({ status: 'created', half: true })
    assert.equal(planContainer(testHeld(), [half], facts()).do, 'discard')
    assert.equal(planContainer(testHeld({}, { keep: true }), [half], facts()).do, 'discard')
  })

  test('limits that differ are updated while it runs', () => {
    assert.equal(planContainer(testHeld(), [testReal({ memory: 1 })], facts()).do, 'update')
    assert.equal(planContainer(testHeld(), [testReal({ nanoCpus: 1 })], facts()).do, 'update')
    assert.equal(planContainer(testHeld(), [testReal({ memory: 1 })], facts({ retryAt: T0 + 1 })).do, 'wait')
  })

  test('a new attempt has its image first, then the old container goes', () => {
    const held = testHeld({}, { attempt: 2 })
    assert.equal(planContainer(held, [testReal()], facts({ fetched: false })).do, 'fetch')
    assert.equal(planContainer(held, [testReal()], facts()).do, 'stop')
    assert.equal(planContainer(held, [ended()], facts()).do, 'discard')
    assert.equal(
      planContainer(held, [testReal(), testReal({ attempt: 2, runtimeId: 'c2' })], facts()).do,
      'discard',
    )
  })

  test('with healing it is started again after a pause that grows', () => {
    const held = testHeld(started)
    const first = facts({ diedAt: T0, crashes: 1 })
    assert.deepEqual(planContainer(held, [ended()], first), {
      do: 'wait',
      untilMs: T0 + RESTART_BACKOFF.firstMs,
      why: 'it ended with exit code 3, and is started again after a pause',
    })
    assert.equal(planContainer(held, [ended()], { ...first, now: T0 + RESTART_BACKOFF.firstMs }).do, 'start')
    const later = facts({ diedAt: T0, crashes: 4 })
    assert.deepEqual(planContainer(held, [ended()], later), {
      do: 'wait',
      untilMs: T0 + 8 * RESTART_BACKOFF.firstMs,
      why: 'it ended with exit code 3, 4 times in a row, and is started again after a pause',
    })
  })

  test('without healing it stays ended once Docker was seen to go on', () => {
    const held = testHeld(started, { healing: false })
    const died = facts({ diedAt: T0 })
    assert.deepEqual(planContainer(held, [ended()], died), { do: 'wait', untilMs: T0 + JUDGE_MS })
    const step = planContainer(held, [ended()], { ...died, now: T0 + JUDGE_MS })
    assert.equal(step.do, 'judge')
    const judged = testHeld(
      { ...started, ended: { runtimeId: 'c1', finishedAt: ended().finishedAt, exitCode: 3 } },
      { healing: false },
    )
    assert.equal(planContainer(judged, [ended()], died).do, 'rest')
    assert.equal(planContainer(judged, [ended()], facts()).do, 'rest')
  })

  test('what nobody saw die is started, with and without healing', () => {
    for (const healing of [true, false]) {
      assert.equal(planContainer(testHeld(started, { healing }), [ended()], facts()).do, 'start')
    }
  })

  test('one that is to start with another recipe is replaced', () => {
    const held = testHeld(started)
    assert.equal(planContainer(held, [ended()], facts({ recipe: 'other' })).do, 'discard')
    assert.equal(planContainer(held, [testReal()], facts({ recipe: 'other' })).do, 'rest')
  })

  test('what one keeps is not thrown away for another recipe, but for another attempt', () => {
    const keeps = testHeld(started, { keep: true })
    const changed = facts({ recipe: 'another' })
    assert.equal(planContainer(keeps, [ended()], changed).do, 'start')
    assert.equal(planContainer(testHeld({}, { keep: true, attempt: 2 }), [ended()], changed).do, 'discard')
  })

  test('switched off it is stopped, never with less than two seconds, and rests', () => {
    const off = testHeld(started, { power: 'off', stopGraceSeconds: 0 })
    assert.deepEqual(planContainer(off, [testReal()], facts()), {
      do: 'stop',
      runtimeId: testReal().runtimeId,
      graceSeconds: 2,
    })
    // What is frozen hears no signal.
    assert.equal(planContainer(off, [testReal({ status: 'paused' })], facts()).do, 'unpause')
    for (const reals of [[ended()], [], [testReal({ status: 'created' })]])
      assert.equal(planContainer(off, reals, facts({ fetched: false })).do, 'rest')
  })

  test('it is frozen once it runs, and goes on when it is not to be', () => {
    const paused = testHeld(started, { power: 'paused' })
    const frozen = testReal({ status: 'paused' })
    assert.equal(planContainer(paused, [testReal({ status: 'created' })], facts()).do, 'start')
    assert.equal(planContainer(paused, [testReal()], facts()).do, 'pause')
    assert.equal(planContainer(paused, [frozen], facts()).do, 'rest')
    assert.equal(planContainer(paused, [{ ...frozen, memory: 1 }], facts()).do, 'update')
    assert.equal(planContainer(testHeld(started), [frozen], facts()).do, 'unpause')
  })

  test('a first start that ends at once with 127 cannot run', () => {
    const quick = ended({ startedAt: '2026-01-01T00:00:09.900000000Z', exitCode: 127 })
    const step = planContainer(testHeld({ starts: 1 }), [quick], facts({ diedAt: T0 }))
    assert.equal(step.do, 'fail')
    assert.notEqual(planContainer(testHeld({ starts: 2 }), [quick], facts({ diedAt: T0 })).do, 'fail')
  })

  test('a failed one rests, and what runs of it is ended', () => {
    const held = testHeld({ failed: 'no such image' })
    assert.equal(planContainer(held, [], facts()).do, 'rest')
    assert.equal(planContainer(testHeld({ failed: 'x' }, { attempt: 2 }), [testReal()], facts()).do, 'stop')
  })

  test('removing: stop, discard, forget; orphans only when asked', () => {
    const held = testHeld({ removing: true })
    assert.deepEqual(planContainer(held, [testReal()], facts()), {
      do: 'stop',
      runtimeId: 'c1',
      graceSeconds: 5,
    })
    assert.equal(planContainer(held, [ended()], facts()).do, 'discard')
    assert.equal(planContainer(held, [testReal({ status: 'removing' })], facts()).do, 'wait')
    assert.equal(planContainer(held, [], facts()).do, 'forget')
    assert.equal(planContainer(undefined, [testReal()], facts()).do, 'rest')
    assert.equal(planContainer(undefined, [testReal()], facts({ discarding: true })).do, 'stop')
  })

  test('in any state there is a step, and a wait ends', () => {
    const status = fc.constantFrom<Real['status']>(
      'created',
      'running',
      'paused',
      'removing',
      'exited',
      'dead',
    )
    const real = fc.record({
      status,
      attempt: fc.integer({ min: 0, max: 3 }),
      exitCode: fc.constantFrom(0, 1, 127),
    })
    const state = fc.record({
      healing: fc.boolean(),
      power: fc.constantFrom(undefined, 'paused' as const, 'off' as const),
      removing: fc.boolean(),
      failed: fc.option(fc.constant('why'), { nil: undefined }),
      fetched: fc.boolean(),
      recipe: fc.constantFrom(undefined, 'recipe', 'other'),
      retryAt: fc.constantFrom(undefined, T0 - 1, T0 + 1000),
      diedAt: fc.constantFrom(undefined, T0 - 1, T0),
      crashes: fc.integer({ min: 0, max: 100 }),
      discarding: fc.boolean(),
      none: fc.boolean(),
    })
    fc.assert(
      fc.property(fc.array(real, { maxLength: 3 }), state, (reals, it) => {
        const { healing, power, removing, failed, none, ...rest } = it
        const held = none
          ? undefined
          : testHeld(
              { removing, ...(failed ? { failed } : {}) },
              {
                attempt: 2,
                healing,
                ...(power ? { power } : {}),
              },
            )
        const all = reals.map((change, n) =>
          testReal({ ...change, runtimeId: `c${n}`, finishedAt: '2026-01-01T00:00:09Z' }),
        )
        const step = planContainer(held, all, facts(rest))
        if (step.do === 'wait') assert.ok(step.untilMs > T0 && step.untilMs <= T0 + RESTART_BACKOFF.maxMs)
        if (step.do === 'create' || step.do === 'start')
          assert.ok(held && !held.removing && failed === undefined && power !== 'off')
        if (step.do === 'forget') assert.equal(all.length, 0)
        const view = viewOf('x', held, all, idle)
        assert.equal(view === undefined, !held && !all.length)
        if (view?.ready) assert.equal(view.state, 'running')
      }),
      { numRuns: 2000 },
    )
  })

  test('pauses double and have an end', () => {
    assert.deepEqual(
      [1, 2, 3].map((times) => backoffMs(times, RESTART_BACKOFF)),
      [250, 500, 1000],
    )
    assert.equal(backoffMs(1000, RESTART_BACKOFF), RESTART_BACKOFF.maxMs)
  })
})

describe('what observe shows', () => {
  test('states', () => {
    const view = (held = testHeld(started), reals: Real[] = [], activity: Partial<Activity> = {}) =>
      viewOf('x', held, reals, { ...idle, ...activity })
    assert.equal(view()?.state, 'waiting')
    assert.equal(view(undefined, [], { doing: 'pulling' })?.state, 'pulling')
    assert.equal(view(undefined, [testReal()])?.state, 'running')
    assert.equal(view(undefined, [testReal()])?.ready, true)
    assert.equal(view(undefined, [testReal({ status: 'paused' })])?.ready, false)
    assert.equal(view(undefined, [ended()])?.state, 'waiting')
    const ending = view(testHeld(started, { healing: false }), [ended()])
    assert.deepEqual([ending?.state, ending?.exitCode], ['exited', 3])
    assert.equal(view(testHeld({ failed: 'why' }))?.message, 'why')
    assert.equal(view(undefined, [], { failing: true, message: 'away' })?.state, 'failed')
    assert.equal(view(testHeld({ removing: true }), [testReal()])?.state, 'stopping')
    assert.match(view(undefined, [ended({ oomKilled: true })])?.message ?? '', /memory/)
  })

  test('while a new attempt gets its image, the old container is what is shown', () => {
    const next = testHeld({}, { attempt: 2 })
    const pulling = viewOf('x', next, [testReal()], { ...idle, doing: 'pulling' })
    assert.deepEqual([pulling?.attempt, pulling?.state, pulling?.ready], [1, 'running', true])
    const gone = viewOf('x', next, [ended()], idle)
    assert.deepEqual([gone?.attempt, gone?.state], [2, 'waiting'])
  })

  test('an orphan is not wanted', () => {
    const orphan = viewOf('x', undefined, [testReal()], idle)
    assert.deepEqual([orphan?.wanted, orphan?.state], [false, 'running'])
    assert.equal(viewOf('x', undefined, [testReal()], { ...idle, discarding: true })?.state, 'stopping')
  })

  test('ready needs its check to pass', () => {
    const rest = { intervalSeconds: 1, timeoutSeconds: 1, failuresMax: 1, startSeconds: 0 }
    const tcp = testHeld({}, { health: { ...rest, check: { type: 'tcp', port: 80 } } })
    assert.equal(viewOf('x', tcp, [testReal()], idle)?.ready, false)
    assert.equal(viewOf('x', tcp, [testReal()], { ...idle, healthy: true })?.ready, true)
    const command = testHeld({}, { health: { ...rest, check: { type: 'command', command: ['ok'] } } })
    assert.equal(viewOf('x', command, [testReal({ health: 'starting' })], idle)?.ready, false)
    assert.equal(viewOf('x', command, [testReal({ health: 'healthy' })], idle)?.ready, true)
  })
})
