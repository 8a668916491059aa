import { AsyncLocalStorage } from 'node:async_hooks'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { jsonLog } from '#lib/log.ts'
import { createIds } from '#lib/ids.ts'
import { circloud } from '#apis/circloud/server.ts'
import { createHttp } from '#apis/http.ts'
import { native } from '#apis/native/server.ts'
import type { RunningCloud } from '#cloud/cloud.ts'
import { simulatedDrivers } from '#drivers/simulated/drivers.ts'
import type { CertificateIssuer } from '#cloud/edge/issuer.driver.ts'
import { signedOnce } from './signer.ts'
import { CALM } from './driver.ts'
import { createLedger } from './ledger.ts'
import { never, NO_TROUBLE, type Process, startProcess } from './process.ts'
import { seeded } from './random.ts'
import { createSchedule } from './schedule.ts'

const START_MS = Date.UTC(2026, 0, 5, 10)

export type Asked = {
  readonly method: string
  readonly path: string
  readonly token: string
  /** For an administrator: the tenant to act in. */
  readonly tenant?: string
  readonly body?: unknown
}

/** What histories share: the HTTP layer, made once, and a data folder with an administrator to begin from. */
export type Site = AsyncDisposable & {
  readonly startMs: number
  readonly adminToken: string
  readonly signer: CertificateIssuer
  /** The process that the HTTP layer leads to now, and where it says what it thinks is a bug. */
  lead(process: Process | undefined, onBug: (line: string) => void): void
  /** One request to the process that is up now; never answered when that one is killed first. */
  ask(request: Asked): Promise<{ readonly status: number; readonly body: unknown }>
  /** A data folder of its own, as after the first start. */
  folder(): { readonly directory: string; remove(): void }
}

/** In memory where the machine has such a folder: histories are many, and what they write is thrown away. */
const base = existsSync('/dev/shm') && process.env['ARCUS_SIM_TMP'] === undefined ? '/dev/shm' : tmpdir()

export async function openSite(): Promise<Site> {
  const signer = await signedOnce(START_MS)
  const root = mkdtempSync(join(base, 'arcus-sim-'))
  const template = join(root, 'template')
  const random = seeded(1)
  const schedule = createSchedule(random, START_MS)
  const bugs: string[] = []
  const first = await startProcess({
    directory: template,
    drivers: simulatedDrivers({ clock: schedule, signer }),
    schedule,
    random,
    ledger: createLedger(),
    workers: 0,
    faults: { pending: new Map(), rates: () => CALM, onTrouble: () => {}, trace: () => {} },
    trouble: () => NO_TROUBLE,
    onKilled: () => {},
    atCommit: () => false,
    onBug: (line) => bugs.push(line),
  })
  let adminToken = ''
  let isReady = false
  const ready = first.cloud
    .bootstrap(
      async ({ token }) => await Promise.resolve(void (adminToken = token)),
      () => 'first-password',
    )
    .finally(() => (isReady = true))
  // Hashing the password takes real time.
  while (!isReady) await schedule.run(() => isReady, Infinity).catch(async () => await pause(1))
  await ready
  let current: Process | undefined = first
  let onBug = (line: string): void => void bugs.push(line)
  const askedOf = new AsyncLocalStorage<Process>()
  const facade = new Proxy({} as RunningCloud, {
    get(_, key) {
      const member = Reflect.get((current ?? first).cloud, key) as unknown
      // A request goes no further than the process that it came to.
      const isAlive = askedOf.getStore() === undefined || askedOf.getStore() === current
      return isAlive || typeof member !== 'function' ? member : never
    },
  })
  const http = await createHttp({
    cloud: facade,
    dialects: [circloud, native],
    log: jsonLog('error', (line) => onBug(line)),
    clock: schedule,
    ids: createIds(schedule),
  })
  await http.app.ready()
  await first.kill()
  let folders = 0
  return {
    startMs: START_MS,
    adminToken,
    signer,
    lead(to, bugsTo) {
      current = to
      onBug = bugsTo
    },
    ask: async (request) =>
      await askedOf.run(current ?? first, async () => {
        const { method, path, token, tenant, body } = request
        const answer = await http.app.inject({
          method: method as 'GET',
          url: path,
          headers: {
            authorization: `Bearer ${token}`,
            'x-auth-token': token,
            ...(tenant === undefined ? {} : { 'arcus-tenant': tenant }),
            ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          },
          ...(body === undefined ? {} : { payload: JSON.stringify(body) }),
        })
        const text = answer.payload
        return { status: answer.statusCode, body: text === '' ? undefined : (JSON.parse(text) as unknown) }
      }),
    folder() {
      const directory = join(root, String(++folders))
      mkdirSync(directory, { mode: 0o700 })
      for (const file of ['arcus.sqlite', 'arcus.sqlite-wal'])
        if (existsSync(join(template, file))) copyFileSync(join(template, file), join(directory, file))
      return { directory, remove: () => rmSync(directory, { recursive: true, force: true }) }
    },
    async [Symbol.asyncDispose]() {
      await http.close()
      rmSync(root, { recursive: true, force: true })
    },
  }
}
