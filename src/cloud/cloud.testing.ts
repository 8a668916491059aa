import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { openAuthority } from '#lib/authority.ts'
import { simulatedClock, type SimulatedClock } from '#lib/clock.ts'
import { createIds } from '#lib/ids.ts'
import { silentLog } from '#lib/log.ts'
import { type Bulk, openBulk } from '#engine/bulk.ts'
import { createEngine, type Engine } from '#engine/engine.ts'
import { createKeyring } from '#engine/secrets.ts'
import { openSqliteStore } from '#engine/store.sqlite.ts'
import { internalIssuer } from '#drivers/issuer/internal.ts'
import type { SimulatedWorld } from '#drivers/simulated/authority.ts'
import type { SimulatedImages } from '#drivers/simulated/images.ts'
import type { SimulatedMail } from '#drivers/simulated/mail.ts'
import type { SimulatedCompute } from '#drivers/simulated/compute.ts'
import { simulatedDrivers } from '#drivers/simulated/drivers.ts'
import type { simulatedEdge } from '#drivers/simulated/edge.ts'
import type { simulatedFront } from '#drivers/simulated/front.ts'
import type { SimulatedSockets } from '#drivers/simulated/sockets.ts'
import type { Fault, simulatedNetwork } from '#drivers/simulated/network.ts'
import type { Caller, Origin } from './access.ts'
import type { CertificateIssuer, IssuedCertificate } from './edge/issuer.driver.ts'
import type { NetworkPromise } from './network/promises.driver.ts'
import { createCloud, type RunningCloud } from './cloud.ts'
import { KINDS, RECONCILED } from './kinds.ts'
import { DEFAULT_SETTINGS, type Settings } from './context.ts'

export type TestCloud = AsyncDisposable & {
  readonly cloud: RunningCloud
  readonly engine: Engine
  readonly bulk: Bulk
  readonly clock: SimulatedClock
  readonly compute: SimulatedCompute
  readonly images: SimulatedImages
  readonly mail: SimulatedMail
  readonly network: ReturnType<typeof simulatedNetwork>
  readonly edge: ReturnType<typeof simulatedEdge>
  readonly front: ReturnType<typeof simulatedFront>
  readonly sockets: SimulatedSockets
  readonly world: SimulatedWorld
  /** A certificate and key for a name, as an operator would bring them. */
  sign(name: string): Promise<IssuedCertificate>
  /** The first administrator, its password and token. */
  readonly admin: Caller
  readonly credentials: { readonly username: string; readonly password: string; readonly token: string }
  /** A new tenant with a caller of its own. */
  tenant(name: string): Promise<{ id: string; token: string; caller: Caller }>
  /** Reconciles on the simulated clock until nothing is due within this time (10 s unless told). */
  settle(withinMs?: number): Promise<void>
}

/** A provider's configuration with nothing of Cloudflare's. */
export const PROVIDER = {
  externalCidr: '203.0.113.0/24',
  externalGateway: '203.0.113.1',
  peeringCidr: '172.30.0.0/24',
  nameservers: [] as string[],
  ndots: null as number | null,
  cloudflareAccountId: null as string | null,
  cloudflareDomain: null as string | null,
}

export const testOrigin: Origin = { dialect: 'test', address: '127.0.0.1', requestId: 'test' }

/** A whole cloud on the real store, with simulated drivers and clock. `fault` is called before each driver verb as `<driver>.<verb>`, `issue` before a certificate is signed. */
export async function testCloud(
  how: {
    fault?: Fault
    settings?: Partial<Settings>
    issue?: () => void
    promises?: readonly NetworkPromise[]
  } = {},
): Promise<TestCloud> {
  const directory = await mkdtemp(join(tmpdir(), 'arcus-test-'))
  const clock = simulatedClock()
  const authority = openAuthority({ folder: join(directory, 'tls'), clock })
  const store = await openSqliteStore({ directory, clock, log: silentLog })
  const engine = createEngine({
    store,
    kinds: KINDS,
    clock,
    ids: createIds(clock),
    keyring: createKeyring(randomBytes(32)),
    log: silentLog,
    random: () => 0.5,
    tenantRefs: true,
    reconciled: RECONCILED,
  })
  const bulk = openBulk({ directory: join(directory, 'bulk'), clock, log: silentLog })
  const signer = internalIssuer(authority)
  const internal: CertificateIssuer = {
    async issue(...given) {
      how.issue?.()
      return await signer.issue(...given)
    },
  }
  const drivers = simulatedDrivers({
    clock,
    signer: internal,
    ...(how.fault ? { fault: how.fault } : {}),
    ...(how.promises ? { promises: how.promises } : {}),
  })
  const { compute, images, mail, network, edge, front, sockets, world } = drivers
  const cloud = createCloud({
    engine,
    bulk,
    drivers,
    settings: { ...DEFAULT_SETTINGS, ...how.settings },
    log: silentLog,
    version: { version: '0.0.0', commit: null },
  })
  let credentials = { username: '', password: '', token: '' }
  await cloud.bootstrap(
    async (made) => await Promise.resolve(void (credentials = made)),
    () => 'first-password',
  )
  const callerOf = async (token: string): Promise<Caller> => {
    const caller = await cloud.authenticate(token, testOrigin)
    if (!caller) throw new Error('a token just issued is not known')
    return caller
  }
  const admin = await callerOf(credentials.token)
  return {
    cloud,
    engine,
    bulk,
    clock,
    compute,
    images,
    mail,
    network,
    edge,
    front,
    sockets,
    world,
    sign: async (name) => await internal.issue([name], new AbortController().signal),
    admin,
    credentials,
    async tenant(name) {
      const { tenant, token } = await cloud.act(
        admin,
        'tenants.create',
        async (verbs) => await verbs.createTenant({ name, description: null }),
      )
      return { id: tenant.id, token, caller: await callerOf(token) }
    },
    settle: async (withinMs = 10_000) => await cloud.settle(withinMs),
    async [Symbol.asyncDispose]() {
      await bulk[Symbol.asyncDispose]()
      await store[Symbol.asyncDispose]()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

/** Runs the cloud, with what it does on a timer, until something is so. */
export async function patrolled(
  it: Pick<TestCloud, 'cloud' | 'clock'>,
  isSo: () => Promise<boolean>,
): Promise<void> {
  const stop = new AbortController()
  const running = it.cloud.run(stop.signal)
  try {
    for (let tries = 0; !(await isSo()); tries++) {
      assert.ok(tries < 400, 'not in time')
      await it.clock.advance(1000)
      // The store writes in a thread of its own.
      await sleep(5)
    }
  } finally {
    stop.abort()
    await running
  }
}
