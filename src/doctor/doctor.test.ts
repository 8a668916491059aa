import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, test } from 'node:test'
import { simulatedClock } from '#lib/clock.ts'
import {
  type Check,
  examine,
  type Finding,
  isFit,
  limited,
  missing,
  ok,
  type Result,
  stateOf,
} from './check.ts'
import { verdictOn } from './disk.ts'
import { isClosed, mendForward, mendInput } from './firewall.ts'
import type { Host } from './host.ts'
import { machineChecks, registry } from './outside.ts'
import { asJson, asTable } from './report.ts'
import { systemChecks } from './system.ts'

const GOOD_FILES: Readonly<Record<string, string>> = {
  '/etc/os-release': 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
  '/proc/sys/kernel/osrelease': '6.1.0\n',
  '/proc/self/limits': 'Max open files            1024                 1048576              files\n',
  '/proc/sys/fs/inotify/max_user_instances': '8192\n',
  '/sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io memory hugetlb pids rdma misc\n',
  '/run/systemd/system': '',
  '/run/chrony/chronyd.pid': '1\n',
}

/** A machine on which everything is fine but for what is given. */
function fakeHost(
  change: Partial<Host> & { files?: Readonly<Record<string, string | undefined>> } = {},
): Host {
  const files = { ...GOOD_FILES, ...change.files }
  const clock = simulatedClock()
  return {
    uid: 0,
    platform: 'linux',
    arch: 'x64',
    node: 'v26.10.0',
    // Simulated time goes only while somebody looks away: as fast as the steady clock, here.
    clock: { ...clock, now: () => clock.now() + performance.now() },
    steadyMs: () => performance.now(),
    memory: { total: 8 << 30, free: 4 * 1024 ** 3 },
    read: (path) => files[path],
    exists: (path) => files[path] !== undefined,
    has: () => true,
    run: async () => await Promise.resolve(''),
    ...change,
  }
}

const system = async (host: Host, written?: number): Promise<Map<string, Result>> =>
  new Map((await examine(systemChecks(host, () => written))).map((it) => [it.id, it]))

const no = async (): Promise<string> => await Promise.reject(new Error('perl: it ended with 4'))

describe('a host', () => {
  test('on which everything is fine is said to be so', async () => {
    for (const it of (await system(fakeHost())).values()) assert.equal(it.state, 'ok', `${it.id}: ${it.seen}`)
  })

  const cases: readonly [
    id: string,
    state: Finding['state'],
    seen: RegExp,
    mend: RegExp,
    Parameters<typeof fakeHost>[0],
  ][] = [
    ['system', 'missing', /no Linux/, /Debian 12/, { platform: 'darwin' }],
    ['system', 'missing', /riscv64/, /another machine/, { arch: 'riscv64' }],
    ['system', 'limited', /without apt-get/, /by hand/, { has: (it) => it !== 'apt-get' }],
    ['root', 'missing', /account 1000/, /^sudo \.\/arcus doctor$/, { uid: 1000 }],
    ['memory', 'missing', /200 MiB of/, /memory/, { memory: { total: 4 << 30, free: 200 * 1024 ** 2 } }],
    [
      'memory',
      'limited',
      /a few containers/,
      /memory/,
      { memory: { total: 4 << 30, free: 800 * 1024 ** 2 } },
    ],
    [
      'open-files',
      'limited',
      /1024 files/,
      /ulimit -Hn 8192/,
      { files: { '/proc/self/limits': 'Max open files   1024   1024   files\n' } },
    ],
    [
      'file-watches',
      'limited',
      /^128 /,
      /sysctl -w fs\.inotify/,
      { files: { '/proc/sys/fs/inotify/max_user_instances': '128' } },
    ],
    [
      'cgroups',
      'missing',
      /version 2 without pids/,
      /another kernel/,
      { files: { '/sys/fs/cgroup/cgroup.controllers': 'cpu memory' } },
    ],
    [
      'cgroups',
      'missing',
      /version 1 without memory/,
      /cgroup_enable=memory/,
      {
        files: {
          '/sys/fs/cgroup/cgroup.controllers': undefined,
          '/proc/cgroups':
            '#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t2\t1\t1\nmemory\t0\t1\t0\npids\t3\t1\t1\n',
        },
      },
    ],
    ['start-at-boot', 'limited', /no systemd/, /@reboot/, { files: { '/run/systemd/system': undefined } }],
    ['time-service', 'limited', /no program/, /chrony/, { files: { '/run/chrony/chronyd.pid': undefined } }],
    ['clock', 'limited', /jumped by \d+ ms/, /one program/, { steadyMs: () => 0 }],
  ]
  for (const [id, state, seen, mend, change] of cases)
    test(`${id}: ${state} where ${String(seen)}`, async () => {
      const it = (await system(fakeHost(change))).get(id)
      assert.equal(it?.state, state, it?.seen ?? id)
      assert.match(it?.seen ?? '', seen)
      assert.match(it?.mend ?? '', mend)
    })

  test('whose clock is behind what it wrote, or in a year that cannot be', async () => {
    const host = fakeHost()
    const behind = (await system(host, host.clock.now() + 86_400_000)).get('clock')
    assert.equal(behind?.state, 'missing')
    assert.match(behind?.seen ?? '', /earlier than the files it wrote/)
    const clock = { ...simulatedClock(Date.UTC(2900, 0, 1)) }
    assert.equal((await system(fakeHost({ clock }))).get('clock')?.state, 'missing')
  })

  test('with and without KVM, which is of no account yet', async () => {
    const look = async (host: Host) => (await examine(machineChecks(host)))[0]
    assert.equal((await look(fakeHost()))?.state, 'limited')
    const files = { '/dev/kvm': '' }
    assert.equal((await look(fakeHost({ files })))?.state, 'ok')
    const broken = await look(fakeHost({ files, run: no }))
    assert.equal(broken?.state, 'limited')
    assert.match(broken.seen, /makes no machine/)
    assert.ok(isFit([broken]))
  })
})

test('a file system is judged by whether the database’s log is safe on it and stays', () => {
  assert.equal(verdictOn(0x01021994, '/data').state, 'limited')
  assert.equal(verdictOn(0x6969, '/data').state, 'missing')
  // CIFS, as a negative number.
  assert.equal(verdictOn(0xff534d42 | 0, '/data').state, 'missing')
  assert.equal(verdictOn(0xef53, '/data').state, 'ok')
})

test('a chain is closed by its policy or by its last rule', () => {
  const chain = { family: 'inet', table: 'filter', name: 'input', hook: 'input', policy: 'accept' }
  const listing = (...rules: string[]): string =>
    `table inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n${rules.map((it) => `\t\t${it}\n`).join('')}\t}\n}\n`
  assert.equal(isClosed({ ...chain, policy: 'drop' }, listing()), true)
  assert.equal(isClosed(chain, listing()), false)
  assert.equal(isClosed(chain, listing('ct state established accept', 'tcp dport 22 accept')), false)
  assert.equal(isClosed(chain, listing('tcp dport 22 accept', 'counter packets 5 bytes 300 drop')), true)
  assert.equal(isClosed(chain, listing('tcp dport 22 accept', 'reject with icmpx admin-prohibited')), true)
  assert.equal(isClosed(chain, listing('drop', 'tcp dport 22 drop')), false, 'only the last rule is judged')
  assert.match(
    mendInput(chain, 'arcus'),
    /^nft insert rule inet filter input iifname '"arcus-u\*"' .*dport '\{ 53, 20000-28191 \}' accept$/,
  )
  const old = { family: 'ip', table: 'filter', name: 'FORWARD', hook: 'forward', policy: 'drop' }
  assert.equal(
    mendForward(old, 'arcus'),
    'iptables -I FORWARD -i arcus-u+ -j ACCEPT && iptables -I FORWARD -o arcus-u+ -j ACCEPT',
  )
})

test('a registry is said to answer, be broken or be away', async () => {
  let status = 401
  const server = createServer((_, answer) => answer.writeHead(status).end())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const look = async (): Promise<Finding> =>
    await registry(fakeHost(), `http://127.0.0.1:${port}`, AbortSignal.timeout(5000))
  assert.match((await look()).seen, /answers 401 after \d+ ms/)
  status = 502
  assert.equal((await look()).state, 'missing')
  await new Promise((resolve) => server.close(resolve))
  const away = await look()
  assert.equal(away.state, 'missing')
  assert.match(away.seen, /does not answer/)
})

describe('the report', () => {
  const check = (id: string, required: boolean, found: () => Finding): Check => ({
    id,
    features: ['vpcs', 'pods'],
    required,
    probe: found,
  })

  test('is of the worst that matters, and a probe that breaks breaks nothing else', async () => {
    const results = await examine([
      check('fine', true, () => ok('there')),
      check('nice', false, () => missing('not there', 'make it')),
      check('broken', false, () => {
        throw new Error('boom')
      }),
    ])
    assert.deepEqual(
      results.map((it) => it.state),
      ['ok', 'missing', 'unknown'],
    )
    assert.equal(stateOf('vpcs', results), 'limited', 'what is not required only limits')
    assert.equal(stateOf('names', results), undefined)
    assert.ok(isFit(results))
    const worse = [...results, ...(await examine([check('needed', true, () => missing('gone', 'bring it'))]))]
    assert.equal(stateOf('pods', worse), 'missing')
    assert.ok(!isFit(worse))
    assert.match(asTable(worse), /^ {2}missing +needed +gone\n +mend: bring it$/m)
    assert.match(asTable(worse), /Arcus requires more than is here: needed \(missing\)\.\n$/)
    const data = JSON.parse(asJson(worse)) as {
      fit: boolean
      features: Record<string, string>
      checks: object[]
    }
    assert.deepEqual(
      [data.fit, data.features, data.checks.length],
      [false, { vpcs: 'missing', pods: 'missing' }, 4],
    )
  })

  test('keeps control characters from the terminal', async () => {
    const results = await examine([check('a', true, () => limited('x\u001b[2Jy', 'z\nw'))])
    assert.match(asTable(results), /x \[2Jy\n +mend: z w\n/)
  })
})
