import assert from 'node:assert/strict'
import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { simulatedClock } from '#lib/clock.ts'
import type { DockerApi } from './docker.ts'
import { startExec } from './exec.ts'

const HOW = { command: ['sh'], tty: false }
/** More than a stream takes before it has to be read. */
const OUTPUT_BYTES = 1024 * 1024

/** A command that Docker begins with `began`, and that has ended as soon as its connection has. */
function world(began: () => void = () => {}) {
  const clock = simulatedClock()
  const socket = new PassThrough()
  const api = {
    createExec: () =>
      Promise.resolve({
        start() {
          began()
          return Promise.resolve(socket)
        },
        inspect: () => Promise.resolve({ Running: !socket.destroyed, ExitCode: 0, Pid: 0 }),
      }),
  } as unknown as DockerApi
  return { clock, socket, begin: (signal: AbortSignal) => startExec(api, 'c1', HOW, clock, signal) }
}

test('a command whose asker went away while it was begun is ended', async () => {
  const gone = new AbortController()
  const { socket, begin } = world(() => gone.abort())
  const { stream } = await begin(gone.signal)
  assert.equal(stream.destroyed, true)
  assert.equal(socket.destroyed, true)
})

test('nothing goes on for a command that was hung up before all that it wrote was read', async () => {
  const { clock, socket, begin } = world()
  const { stream, exitCode } = await begin(new AbortController().signal)
  const header = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0])
  header.writeUInt32BE(OUTPUT_BYTES, 4)
  const piece = Buffer.concat([header, Buffer.alloc(OUTPUT_BYTES)])
  socket.write(Buffer.concat([piece, piece]))
  await once(stream, 'readable')
  stream.destroy()
  assert.equal(await exitCode, 0)
  await setImmediate()
  assert.equal(clock.nextMs(), undefined)
})
