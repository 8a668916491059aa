import { describe } from 'node:test'
import { conformance } from './compute.testing.ts'
import { inside } from './inside.testing.ts'
import { restarts } from './restart.testing.ts'

// Side by side: each has a daemon, names and addresses of its own, and waits most of its time for containers.
describe('docker', { concurrency: 3 }, () => {
  restarts()
  conformance()
  inside()
})
