import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import type { Pod } from '../client.testing.ts'
import type { TestCloud } from '../cloud.testing.ts'
import { containerOf, ipIn, run, tcpFrom } from '../host.testing.ts'
import { askProbe, fetchFrom, listening, placeOf } from '../probe.testing.ts'
import { eventually, everyStep } from '../wait.testing.ts'

const REPAIRED_WITHIN_MS = 30_000

export type Inhabited = {
  readonly cloud: TestCloud
  /** In one VPC; the first may leave. */
  readonly client: Pod
  readonly server: Pod
  readonly third: Pod
  /** In a VPC of another tenant, and in one without internet. */
  readonly foreign: Pod
  readonly shut: Pod
}
type Told = { what: string; subject?: string; body: { detail?: string } }

/** Somebody meddles with everything that Arcus made, and with what it did not. */
export function driftScenario(given: () => Inhabited): void {
  const namespaceOf = (pod: Pod): string => `arcus-${pod.vpc_id.slice(-12)}`
  const mend = async (): Promise<string[]> =>
    (await given().cloud.native<{ items: { detail: string }[] }>('POST', '/leaks/mend', 200)).items.map(
      (it) => it.detail,
    )
  const eventsOf = async (subject?: string): Promise<string[]> => {
    const query = `newestFirst=true&limit=500${subject === undefined ? '' : `&subject=${subject}`}`
    const { items } = await given().cloud.native<{ items: Told[] }>('GET', `/records/event?${query}`, 200)
    return items.map((it) => `${it.what} ${it.body.detail ?? ''}`)
  }
  const replicaOf = async (pod: Pod): Promise<string> => (await containerOf(pod)).replica
  /** The router's end of a container's link. */
  const linkOf = async (pod: Pod): Promise<string> => {
    const [{ link_index: index } = {}] = JSON.parse(
      await ipIn(await placeOf(pod), '-j', 'link', 'show', 'eth0'),
    ) as { link_index?: number }[]
    const links = JSON.parse(await ipIn({ namespace: namespaceOf(pod) }, '-j', 'link')) as {
      ifindex: number
      ifname: string
    }[]
    return links.find((it) => it.ifindex === index)?.ifname ?? assert.fail(`no link of ${pod.name}`)
  }

  describe('drift', { concurrency: false }, () => {
    test('made by hand is found, told and repaired', async () => {
      const { cloud, client, server, third, foreign, shut } = given()
      await cloud.noLeaks()
      const router = namespaceOf(client)
      const [before, resolv] = [await containerOf(third), await replicaOf(server)]
      const file = join(cloud.data, 'agent/containers/resolv', resolv)
      const started = (await containerOf(server)).startedAt
      const hands: [string, () => Promise<unknown>][] = [
        ['rules flushed', () => run('ip', 'netns', 'exec', router, 'nft', 'flush', 'ruleset')],
        [
          'table ip extra not in the plan',
          () => run('ip', 'netns', 'exec', router, 'nft', 'add', 'table', 'ip', 'extra'),
        ],
        ['route to 10.100.1.0/24 missing', () => run('ip', '-n', router, 'route', 'del', '10.100.1.0/24')],
        [
          'address 192.0.2.7/32 on lo not in the plan',
          () => run('ip', '-n', router, 'addr', 'add', '192.0.2.7/32', 'dev', 'lo'),
        ],
        [
          'setting net.ipv4.ip_forward is 0, not 1',
          () => run('ip', 'netns', 'exec', router, 'sysctl', '-qw', 'net.ipv4.ip_forward=0'),
        ],
        ['table inet arcus missing', () => run('nft', 'delete', 'table', 'inet', 'arcus')],
        [
          "rules for VPCs in Docker's chain DOCKER-USER missing",
          () => run('iptables', '-D', 'DOCKER-USER', '-i', 'arcus-u+', '-j', 'ACCEPT'),
        ],
        [
          'resolv.conf of server-0 changed'.replace('server', server.name),
          async () => writeFileSync(file, 'nameserver 192.0.2.53\n'),
        ],
        [
          'link of the running container '.concat(`${foreign.name}-0 missing`),
          async () => run('ip', '-n', namespaceOf(foreign), 'link', 'del', await linkOf(foreign)),
        ],
        ['namespace missing', () => run('ip', 'netns', 'del', namespaceOf(shut))],
        ['(a container removed)', () => run('docker', 'rm', '-f', before.id)],
      ]
      // The first would take what the second puts there along.
      await hands[0]?.[1]()
      await Promise.all(hands.slice(1).map(([, hand]) => hand()))
      const found = await mend()
      for (const [words] of hands.filter(([it]) => !it.startsWith('('))) {
        assert.ok(found.includes(words), `${words}: found ${found.join('; ')}`)
      }
      // The machines of a namespace that went have lost their links with it: seen once the namespace is there again.
      await eventually(
        'all is repaired',
        async () => {
          const left = await mend()
          if (left.length > 0) throw new Error(left.join('; '))
          return true
        },
        REPAIRED_WITHIN_MS,
      )
      await cloud.noLeaks()
      await listening(client, server, third, foreign, shut)
      for (const pod of [server, third])
        assert.ok(await fetchFrom(client, `http://${pod.name}/hostname`), `client reaches ${pod.name}`)
      for (const pod of [foreign, shut])
        assert.equal((await askProbe(pod, `/resolve?name=${pod.name}`)).status, 200)
      assert.match(readFileSync(file, 'utf8'), /169\.254\.169\.253/)
      assert.equal((await containerOf(server)).startedAt, started, 'what need not start again did not')
      assert.notEqual((await containerOf(third)).id, before.id)
      const told = await eventsOf(client.vpc_id)
      assert.ok(
        told.includes('vpc.drifted rules flushed') && told.includes('vpc.repaired rules flushed'),
        told.join(),
      )
      const ofThird = await eventsOf(before.replica)
      assert.ok(
        ofThird.some((it) => it.startsWith('replica.drifted its container is gone')),
        ofThird.join(),
      )
      const ofForeign = await eventsOf(await replicaOf(foreign))
      assert.ok(
        ofForeign.some((it) => it.startsWith('replica.repaired link of')),
        ofForeign.join(),
      )
      assert.ok((await eventsOf()).includes('host.repaired table inet arcus missing'))
      const metrics = await (await fetch(`${cloud.url}/metrics`)).text()
      assert.match(metrics, /arcus_repairs_total\{thing="table"\} \d/)
    })

    test('of others is none of ours: what another data folder made, and what nobody of ours did', async () => {
      const { cloud, client } = given()
      const folder = mkdtempSync(join(tmpdir(), 'arcus-other-'))
      const owner = '0123456789abcdef'.repeat(2)
      writeFileSync(join(folder, 'owner'), `${owner}\n`)
      const labels = (id: string): string[] =>
        Object.entries({ instance: 'arcus', id, owner: `${owner} ${folder}` }).flatMap(([key, value]) => [
          '--label',
          `arcus.${key}=${value}`,
        ])
      const create = async (...args: string[]): Promise<string> =>
        (await run('docker', 'create', '--network', 'none', ...args, 'arcus-probe:latest')).trim()
      const [theirs, plain] = [await create(...labels(randomUUID())), await create()]
      const subnet = randomUUID()
      const network = `arcus-${subnet}`
      await run('docker', 'network', 'create', ...labels(''), '--label', `arcus.subnet=${subnet}`, network)
      await run('nft', 'add', 'table', 'inet', 'other')
      await run('ip', 'netns', 'add', 'other-namespace')
      const there = async (): Promise<string[]> => [
        ...(await run('docker', 'ps', '-aq', '--no-trunc'))
          .split('\n')
          .filter((it) => it === theirs || it === plain),
        ...(await run('docker', 'network', 'ls', '--format', '{{.Name}}'))
          .split('\n')
          .filter((it) => it === network),
        ...(await run('nft', 'list', 'tables')).split('\n').filter((it) => it === 'table inet other'),
        ...(await run('ip', 'netns', 'list')).split('\n').filter((it) => it.startsWith('other-namespace')),
      ]
      try {
        assert.equal((await there()).length, 5)
        assert.deepEqual(await mend(), [])
        await cloud.noLeaks()
        assert.equal((await there()).length, 5)
        assert.equal(await tcpFrom(await placeOf(client), client.vip, 80), 'connected')
        // Once their folder is gone nobody else will remove them.
        rmSync(folder, { recursive: true })
        await eventually(
          'what nobody owns is removed',
          async () => {
            await mend()
            const left = await there()
            return !left.includes(theirs) && !left.includes(network)
          },
          REPAIRED_WITHIN_MS * 2,
        )
        assert.ok((await there()).includes(plain))
      } finally {
        rmSync(folder, { recursive: true, force: true })
        await everyStep(
          () => run('docker', 'rm', '-f', theirs, plain),
          () => run('docker', 'network', 'rm', network).catch(() => undefined),
          () => run('nft', 'delete', 'table', 'inet', 'other'),
          () => run('ip', 'netns', 'del', 'other-namespace'),
        )
      }
    })
  })
}
