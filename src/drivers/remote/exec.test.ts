import assert from 'node:assert/strict'
import { once } from 'node:events'
import { duplexPair } from 'node:stream'
import { test } from 'node:test'
import { openExec } from './exec.ts'
import { FRAME, frame } from './protocol.ts'

const START = { id: '01900000-0000-7000-8000-000000000001', how: { command: ['sh'], tty: false } }
/** More than a stream takes before it has to be read. */
const OUTPUT_BYTES = 1024 * 1024

test('whoever gives up before the command began waits no longer', async () => {
  const [ours] = duplexPair()
  const gone = new AbortController()
  const opened = openExec(ours, START, gone.signal)
  gone.abort(new Error('gone'))
  await assert.rejects(opened, /gone/)
  assert.equal(ours.destroyed, true)
})

test('a command that was hung up before all that it wrote was read has an end', async () => {
  const [ours, theirs] = duplexPair()
  const output = frame(FRAME.data, Buffer.alloc(OUTPUT_BYTES))
  theirs.write(Buffer.concat([frame(FRAME.started), output, output]))
  const { stream, exitCode, resize } = await openExec(ours, START, new AbortController().signal)
  await once(stream, 'readable')
  stream.destroy()
  await assert.rejects(exitCode, { code: 'unavailable' })
  await resize(80, 24)
})
