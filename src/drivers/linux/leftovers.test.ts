import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { COMMAND_MS_MAX, PARENT_VARIABLE } from '#lib/command.ts'
import { processRepairs } from './leftovers.ts'

test('a command whose agent is gone is found once it runs too long, with how to end it', async () => {
  const begin = (parent: number) =>
    spawn('sleep', ['60'], { env: { [PARENT_VARIABLE]: String(parent) }, stdio: 'ignore' })
  // No process has the first number; the second command is of an agent that lives.
  const [left, ours] = [begin(2 ** 30), begin(process.pid)]
  try {
    await Promise.all([once(left, 'spawn'), once(ours, 'spawn')])
    const foundAt = (now: number) =>
      processRepairs(now)
        .map((it) => it.finding)
        .filter(({ detail }) => [left, ours].some(({ pid }) => detail.startsWith(`process ${pid} `)))
    assert.deepEqual(foundAt(Date.now()), [])
    const [one, ...more] = foundAt(Date.now() + COMMAND_MS_MAX + 1000)
    assert.deepEqual(more, [])
    assert.deepEqual(
      [one?.what, one?.thing, one?.detail, one?.mend],
      [
        'orphan',
        'process',
        `process ${left.pid} (sleep) of a host agent that is gone`,
        { command: `kill ${left.pid}` },
      ],
    )
  } finally {
    left.kill()
    ours.kill()
  }
})
