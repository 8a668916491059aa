import { type Server, createServer } from 'node:net'
import { after, before, describe } from 'node:test'
import { conformance } from './compute.testing.ts'
import { until } from './daemon.ts'
import { inside } from './inside.testing.ts'
import { restarts } from './restart.testing.ts'

/** A name in the kernel that one process of the machine can have, and loses when it ends. */
const TURN = '\0arcus-docker-tests'
const TURN_MS_MAX = 150_000

// Two runs at once would have the same names on the host.
let turn: Server | undefined
const takeTurn = (): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(TURN, () => {
      turn = server
      resolve(true)
    })
  })

// Side by side: each has a daemon, names and addresses of its own, and waits most of its time for containers.
describe('docker', { concurrency: 3 }, () => {
  before(() => until('no other run of these tests', takeTurn, TURN_MS_MAX))
  after(() => void turn?.close())
  restarts()
  conformance()
  inside()
})
