import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { steadyClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import { createKeyring } from '#engine/secrets.ts'
import { exampleFront, exampleRoute } from '#cloud/edge/front.conformance.ts'
import type { Carry } from '#cloud/edge/front.driver.ts'
import { localFront } from '#drivers/front/local.ts'
import { certify } from '#drivers/front/front.testing.ts'
import { FRONT_LIMITS } from '#drivers/front/limits.ts'

// The front door with one route to each origin it is told of, over plain HTTP by the address and over TLS by name.

type Told = { readonly carry: Carry; readonly hostname: string; readonly port: number }

const READY_MS_MAX = 10_000
const told = JSON.parse(process.argv[2] ?? '[]') as readonly Told[]
const directory = mkdtempSync(join(tmpdir(), 'arcus-bench-front-'))
const listen = { address: '127.0.0.1', port: 0 }
const front = await localFront({
  directory,
  http: listen,
  https: listen,
  seal: createKeyring(Buffer.alloc(32)),
  clock: steadyClock,
  log: silentLog,
  // One client is all there is here.
  limits: { ...FRONT_LIMITS, connectionsPerClientMax: FRONT_LIMITS.connectionsMax },
})
const signal = AbortSignal.timeout(READY_MS_MAX)
const { certificate, ca } = await certify(
  'bench',
  told.map((it) => it.hostname),
)
await front.applyCertificate(certificate, signal)
const routes = told.map(({ carry, hostname, port }, at) =>
  exampleRoute({
    id: `route-${at}`,
    hostname,
    carry,
    plain: carry === 'http',
    certificate: 'bench',
    origins: [{ id: `origin-${at}`, address: '127.0.0.1', port, weight: 1 }],
  }),
)
await front.apply(exampleFront({ routes }), signal)
let bound = front.bound()
while (!bound.http || !bound.https) {
  await new Promise((resolve) => setTimeout(resolve, 5))
  bound = front.bound()
}
process.stdout.write(`${JSON.stringify({ http: bound.http.port, https: bound.https.port, ca })}\n`)
process.once('SIGTERM', () => {
  void front.close().finally(() => {
    rmSync(directory, { recursive: true, force: true })
    process.exit(0)
  })
})
