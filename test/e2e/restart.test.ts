import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Pod, TestTenant } from './client.testing.ts'
import { startCloud, type ProcessName, type TestCloud } from './cloud.testing.ts'
import { assertNothingLeft, containersOf, hostSnapshot, run, stopDocker } from './host.testing.ts'
import { askProbe, fetchFrom, listening } from './probe.testing.ts'
import { type Tunnel, type Visitor, visitorOf } from './tunnel.testing.ts'
import { always, eventually, everyStep } from './wait.testing.ts'

// Every process of the cloud, and Docker, may go away alone: what runs goes on, and what went down comes back as it was.
const BACK_WITHIN_MS = 20_000
const DOCKER_BACK_MS = 60_000
/** How long the agent is away when Docker starts without it. */
const AGENT_LATE_MS = 4000
const BRIEFLY_MS = 2500

describe('restarts', { concurrency: false }, () => {
  let cloud: TestCloud
  let host: Set<string>
  let tenant: TestTenant
  let web: Pod
  let plain: Pod
  let client: Pod
  let visitor: Visitor
  let hostname: string

  before(async () => {
    host = await hostSnapshot()
    cloud = await startCloud()
    tenant = await cloud.tenant()
    const subnet = await tenant.subnet(await tenant.vpc('production'))
    const reached = { external_access: true, external_inbound: true }
    ;[web, plain, client] = (await Promise.all([
      tenant.pod(subnet, 'web', { auto_healing: true, ...reached }).then((it) => tenant.running(it)),
      tenant.pod(subnet, 'plain').then((it) => tenant.running(it)),
      tenant.pod(subnet, 'client').then((it) => tenant.running(it)),
    ])) as [Pod, Pod, Pod]
    await listening(web, plain, client)
    const domain = `${tenant.name}.example.test`
    await cloud.call('POST', `/tenants/${tenant.id}/domains`, 201, { domain }, { admin: cloud.admin.token })
    const wanted = { subdomain: 'app', protocol_type: 'http', service_port: 80, domain }
    hostname = (await tenant.call<Tunnel>('POST', `/tunnels?pod_id=${web.id}`, 201, wanted)).hostname
    visitor = await visitorOf(cloud)
    await eventually('its tunnel works', tunnelled, BACK_WITHIN_MS)
  })
  after(async () => {
    await everyStep(
      () => visitor?.[Symbol.asyncDispose](),
      () => tenant?.remove(),
      () => cloud?.emptied(),
      () => cloud?.[Symbol.asyncDispose](),
      () => assertNothingLeft(host),
    )
  })

  const served = async (): Promise<boolean> =>
    (await fetch(`http://${web.external_ip}/hostname`, { signal: AbortSignal.timeout(1000) })).ok
  const tunnelled = async (): Promise<boolean> => (await visitor.get(hostname, '/hostname')).status === 200
  const shown = async (): Promise<string> => (await visitor.certificate(hostname)).fingerprint256
  /** Asks through the tunnel all the time that something else happens; every request must be answered. */
  const underLoad = async (meanwhile: () => Promise<unknown>): Promise<void> => {
    const load = visitor.load(hostname, '/hostname')
    await meanwhile().finally(() => load.end())
    const { asked, failed } = await load.end()
    assert.ok(asked > 0)
    assert.deepEqual(failed, [], 'the tunnel goes on')
  }
  const works = async (): Promise<true> => {
    assert.ok(await served(), 'its external address')
    assert.ok(await tunnelled(), 'its tunnel')
    for (const pod of [web, plain]) {
      for (const at of [pod.name, pod.dns_name, pod.vip, pod.ip_addresses[0]]) {
        assert.ok(await fetchFrom(client, `http://${at}/hostname`), `client reaches ${at}`)
      }
    }
    return true
  }
  const started = async (): Promise<string[]> =>
    (await Promise.all([web, plain, client].map((it) => containersOf(it.id))))
      .flat()
      .map((it) => `${it.id} ${it.startedAt}`)
      .sort()
  /** The API says what it said before. */
  const recorded = async (): Promise<void> => {
    await cloud.answers()
    for (const pod of [web, plain, client]) {
      const now = await tenant.running(pod)
      assert.deepEqual(
        [now.vip, now.ip_addresses, now.external_ip, now.dns_name],
        [pod.vip, pod.ip_addresses, pod.external_ip, pod.dns_name],
      )
    }
    await cloud.noLeaks()
  }

  test('with the cloud process gone, a restarted container and a killed one come back as they were', async () => {
    const release = cloud.killAndHold('cloud')
    try {
      await works()
      const [before] = await containersOf(web.id)
      assert.ok(before)
      await run('docker', 'restart', '-t', '1', before.id)
      await eventually('the restarted one works', works, BACK_WITHIN_MS)
      const [restarted] = await containersOf(web.id)
      assert.ok(restarted && restarted.startedAt !== before.startedAt)
      process.kill(restarted.pid, 'SIGKILL')
      await eventually(
        'the killed one runs again',
        async () => (await containersOf(web.id)).some((it) => it.startedAt !== restarted.startedAt),
        BACK_WITHIN_MS,
      )
      await eventually('the killed one works', works, BACK_WITHIN_MS)
    } finally {
      release()
    }
    await recorded()
  })

  for (const name of ['cloud', 'agent', 'edge'] satisfies ProcessName[]) {
    test(`the ${name} process killed alone: nothing that runs notices`, async () => {
      const before = await started()
      const first = cloud.pid(name)
      if (name === 'edge') {
        const certificate = await shown()
        // What is under way then has nobody to answer it.
        const load = visitor.load(hostname, '/hostname')
        assert.ok(cloud.kill(name))
        await eventually('its tunnel works again', tunnelled, BACK_WITHIN_MS).finally(() => load.end())
        await eventually(
          'names are known again',
          async () => (await askProbe(client, '/resolve?name=web')).status === 200,
          BRIEFLY_MS,
        )
        await underLoad(() => always('traffic goes on', served, BRIEFLY_MS))
        assert.equal(await shown(), certificate)
      } else {
        await underLoad(async () => {
          assert.ok(cloud.kill(name))
          await always('traffic goes on', served, BRIEFLY_MS)
        })
      }
      await eventually(
        `another ${name} process runs`,
        () => {
          const now = cloud.pid(name)
          return now !== first && now
        },
        BACK_WITHIN_MS,
      )
      await eventually('everything works', works, BACK_WITHIN_MS)
      await recorded()
      assert.deepEqual(await started(), before, 'no container was touched')
    })
  }

  test('the edge killed while the cloud says nothing: it serves the same tunnels from what it kept', async () => {
    const before = await shown()
    const [silent, first] = [cloud.pid('cloud'), cloud.pid('edge')]
    process.kill(silent, 'SIGSTOP')
    try {
      assert.ok(cloud.kill('edge'))
      await eventually('another edge runs', () => cloud.pid('edge') !== first, BACK_WITHIN_MS)
      await eventually('the tunnel works', tunnelled, BACK_WITHIN_MS)
      assert.equal(await shown(), before)
    } finally {
      process.kill(silent, 'SIGCONT')
    }
    await recorded()
  })

  test('the parent killed alone: the processes run on, and a new parent adopts them', async () => {
    const before = await started()
    const processes = (['cloud', 'agent', 'edge'] as const).map((it) => cloud.pid(it))
    await underLoad(async () => {
      await cloud.killParent()
      await works()
      cloud = await cloud.again()
      await recorded()
    })
    assert.deepEqual(
      (['cloud', 'agent', 'edge'] as const).map((it) => cloud.pid(it)),
      processes,
    )
    assert.deepEqual(await started(), before, 'no container was touched')
  })

  test('Docker restarted with the agent up: everything comes back', async () => {
    const start = await stopDocker()
    await start()
    await eventually('everything works', works, DOCKER_BACK_MS)
    await recorded()
  })

  test('Docker restarted with the agent a few seconds late: everything comes back', async () => {
    const start = await stopDocker()
    const release = cloud.killAndHold('agent')
    let answering: Promise<void>
    try {
      answering = start()
      await sleep(AGENT_LATE_MS)
    } finally {
      release()
    }
    await answering
    await eventually('everything works', works, DOCKER_BACK_MS)
    await recorded()
  })

  test('all processes ended at once: a new start adopts what still runs', async () => {
    const [before, certificate] = [await started(), await shown()]
    const load = visitor.load(hostname, '/hostname')
    await cloud.cut()
    assert.ok(await served(), 'traffic goes on without any of them')
    cloud = await cloud.again().finally(() => load.end())
    await underLoad(() => eventually('everything works', works, BACK_WITHIN_MS))
    assert.equal(await shown(), certificate)
    await recorded()
    assert.deepEqual(await started(), before, 'no container was touched')
  })
})
