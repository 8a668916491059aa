// What `arcus doctor` says of a host that lacks something: each lack is made for real, and the command it names is run.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { HOST_NEEDS } from '#lib/needs.ts'
import { enterSandbox, folder, removeFolder, sh, tryTo } from './sandbox.ts'

await enterSandbox(import.meta.filename)

const DOCTOR = join(import.meta.dirname, '../../src/doctor.ts')
const NOBODY = 65_534
const RUN_MS_MAX = 60_000
const DAY_SECONDS = 86_400
const OLD_CONNTRACK =
  '#!/bin/sh\n[ "$1" = -R ] && { echo "unknown option -R" >&2; exit 2; }\necho conntrack v1.4.6\n'

type Said = {
  readonly code: number | null
  readonly fit: boolean
  readonly features: Readonly<Record<string, string>>
  readonly of: (id: string) => { readonly state: string; readonly seen: string; readonly mend?: string }
}

const data = join(folder(), 'data')
const ASKED = ['--data', data, '--docker', '/run/no-engine.sock', '--listen', '127.0.0.1:18080']

function doctor(args: readonly string[] = [], uid = 0): Said {
  const { status, stdout, stderr } = spawnSync(process.execPath, [DOCTOR, '-o', 'json', ...ASKED, ...args], {
    encoding: 'utf8',
    timeout: RUN_MS_MAX,
    uid,
    gid: uid,
  })
  assert.equal(stderr, '')
  const { fit, features, checks } = JSON.parse(stdout) as Omit<Said, 'of'> & { checks: { id: string }[] }
  const of: Said['of'] = (id) => {
    const found = checks.find((it) => it.id === id)
    assert.ok(found, `no check ${id}`)
    return found as unknown as ReturnType<Said['of']>
  }
  return { code: status, fit, features, of }
}

/** What it says of each check, with the reason beside it when it is not as expected. */
function assertStates(said: Said, expected: Readonly<Record<string, string>>): void {
  for (const [id, state] of Object.entries(expected))
    assert.equal(said.of(id).state, state, `${id}: ${said.of(id).seen}`)
}

/** The command before what is said for a person. */
const commandOf = (said: Said, id: string): string => (said.of(id).mend ?? '').replace(/ \(then keep .*$/, '')

/**
 * /usr/sbin with copies of what is needed alone, for this process and its children: some programs are not there, or
 * others in their place. Copies, so that nothing of the machine can be reached through the folder when it is removed.
 */
function replaceTools(tools: Readonly<Record<string, string | undefined>>): () => void {
  const mountsOf = (pid: string): string => readlinkSync(`/proc/${pid}/ns/mnt`)
  assert.notEqual(mountsOf('self'), mountsOf(String(process.ppid)), 'mounts of its own, not the machine’s')
  const changed = folder()
  for (const { command } of HOST_NEEDS) {
    const original = join('/usr/sbin', command)
    if (!(command in tools) && existsSync(original)) copyFileSync(original, join(changed, command))
  }
  for (const [name, text] of Object.entries(tools))
    if (text !== undefined) writeFileSync(join(changed, name), text, { mode: 0o755 })
  sh('mount', '--bind', changed, '/usr/sbin')
  return () => sh('umount', '/usr/sbin')
}

describe('arcus doctor', { concurrency: false }, () => {
  let taken: Socket | undefined
  before(() => {
    mkdirSync(join(data, 'cloud'), { recursive: true, mode: 0o700 })
    for (const it of ['cloud/master.key', 'cloud/arcus.db'])
      writeFileSync(join(data, it), 'x', { mode: 0o600 })
  })
  after(() => taken?.close())

  test('finds nothing wrong with a host that has everything, and leaves nothing', () => {
    const said = doctor()
    assertStates(said, {
      rules: 'ok',
      links: 'ok',
      'policy-routing': 'ok',
      ipv6: 'ok',
      'single-flows': 'ok',
      fabric: 'ok',
      'external-pool': 'ok',
      'external-reach': 'limited',
      'firewall-input': 'ok',
      'firewall-forward': 'ok',
      'port-53': 'ok',
      'port-18080': 'ok',
      permissions: 'ok',
      clock: 'ok',
      'disk-speed': 'ok',
      engine: 'missing',
      'engine-limits': 'unknown',
    })
    assert.match(said.of('engine').mend ?? '', /dockerd|docker\.io|systemctl/)
    // The engine is what this sandbox lacks, and it is required.
    assert.deepEqual([said.fit, said.code, said.features['vpcs']], [false, 1, 'ok'])
    assert.equal(sh('ip', 'netns', 'list'), '')
    assert.deepEqual(readdirSync(join(data, 'cloud')).toSorted(), ['arcus.db', 'master.key'])
  })

  test('names what is in the way, with commands that mend it', async () => {
    sh('ip', 'addr', 'add', '100.112.9.9/32', 'dev', 'lo')
    sh('ip', 'link', 'add', 'lan0', 'type', 'veth', 'peer', 'name', 'lan1')
    sh('ip', 'addr', 'add', '203.0.113.7/24', 'dev', 'lan0')
    sh('ip', 'link', 'set', 'lan0', 'up')
    sh('nft', 'add', 'table', 'inet', 'wall')
    sh('nft', 'add', 'chain', 'inet', 'wall', 'in', '{ type filter hook input priority 0; policy drop; }')
    sh('nft', 'add', 'chain', 'inet', 'wall', 'through', '{ type filter hook forward priority 0; }')
    sh('nft', 'add', 'rule', 'inet', 'wall', 'through', 'reject')
    chmodSync(join(data, 'cloud/master.key'), 0o644)
    const ahead = Date.now() / 1000 + DAY_SECONDS
    utimesSync(join(data, 'cloud/arcus.db'), ahead, ahead)
    taken = createSocket('udp4')
    await new Promise<void>((resolve) => taken?.bind(53, '0.0.0.0', resolve))
    const said = doctor(['--external-pool', '203.0.113.0/25', '--listen', '203.0.113.99:80'])
    assertStates(said, {
      fabric: 'missing',
      'external-pool': 'missing',
      'external-reach': 'ok',
      'firewall-input': 'missing',
      'firewall-forward': 'missing',
      permissions: 'missing',
      clock: 'missing',
      'port-53': 'missing',
      'port-80': 'missing',
    })
    assert.equal(said.code, 1)
    assert.match(said.of('fabric').seen, /100\.112\.9\.9 on lo/)
    assert.equal(said.of('fabric').mend, 'choose another with --fabric CIDR')
    assert.match(said.of('external-reach').seen, /203\.0\.113\.0\/24 on lan0/)
    assert.match(said.of('port-80').mend ?? '', /--listen HOST:PORT/)

    for (const id of ['firewall-input', 'firewall-forward', 'permissions'])
      sh('sh', '-c', commandOf(said, id))
    sh('ip', 'addr', 'del', '100.112.9.9/32', 'dev', 'lo')
    utimesSync(join(data, 'cloud/arcus.db'), 1, 1)
    taken.close()
    taken = undefined
    assertStates(doctor(), {
      fabric: 'ok',
      'external-pool': 'ok',
      'firewall-input': 'ok',
      'firewall-forward': 'ok',
      permissions: 'ok',
      clock: 'ok',
      'port-53': 'ok',
    })
    sh('nft', 'delete', 'table', 'inet', 'wall')
  })

  test('mends a firewall of iptables with iptables', { skip: tryTo('iptables', '-V') === '' }, () => {
    sh('iptables', '-P', 'INPUT', 'DROP')
    sh('iptables', '-P', 'FORWARD', 'DROP')
    const said = doctor()
    for (const id of ['firewall-input', 'firewall-forward']) {
      assert.equal(said.of(id).state, 'missing', said.of(id).seen)
      assert.match(commandOf(said, id), /^iptables -I /)
      sh('sh', '-c', commandOf(said, id))
    }
    assertStates(doctor(), { 'firewall-input': 'ok', 'firewall-forward': 'ok' })
    sh('iptables', '-P', 'INPUT', 'ACCEPT')
    sh('iptables', '-P', 'FORWARD', 'ACCEPT')
    sh('iptables', '-F')
  })

  test('names programs that are missing or too old, and a disk that is none', () => {
    const small = folder()
    const undo: (() => void)[] = [() => sh('umount', small)]
    sh('mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', small)
    try {
      const restore = replaceTools({ conntrack: OLD_CONNTRACK })
      undo.push(restore)
      const old = doctor(['--data', small])
      assertStates(old, {
        'single-flows': 'missing',
        'disk-space': 'missing',
        'file-system': 'limited',
        rules: 'ok',
      })
      assert.match(old.of('single-flows').seen, /1\.4\.7 and later can.*unknown option -R/)
      assert.match(old.of('single-flows').mend ?? '', /apt-get install -y conntrack/)
      restore()
      undo.pop()
      undo.push(replaceTools({ nft: undefined }))
      sh('mount', '-o', 'remount,ro', small)
      const none = doctor(['--data', small])
      assertStates(none, {
        nft: 'missing',
        rules: 'unknown',
        'disk-speed': 'missing',
        'firewall-input': 'unknown',
      })
      assert.match(none.of('nft').mend ?? '', /^apt-get install -y nftables/)
      assert.match(none.of('disk-speed').seen, /nothing can be written in .* \(EROFS\)/)
      assert.equal(none.features['vpcs'], 'missing')
    } finally {
      for (const one of undo.toReversed()) one()
    }
  })

  test('without root says what root could see', () => {
    rmSync(data, { recursive: true })
    const said = doctor([], NOBODY)
    assertStates(said, {
      root: 'missing',
      rules: 'unknown',
      'firewall-input': 'unknown',
      'port-53': 'unknown',
      fabric: 'ok',
      nft: 'ok',
    })
    assert.equal(said.of('rules').mend, 'sudo ./arcus doctor')
    assert.deepEqual([said.fit, said.code], [false, 1])
    assert.equal(existsSync(data), false)
  })

  test('its sandbox leaves a folder alone while something is mounted in it', () => {
    const place = folder()
    const mount = join(place, 'mount')
    mkdirSync(mount)
    sh('mount', '-t', 'tmpfs', 'tmpfs', mount)
    writeFileSync(join(mount, 'kept'), '')
    assert.throws(() => removeFolder(place), /still mounted/)
    assert.ok(existsSync(join(mount, 'kept')))
    sh('umount', mount)
    removeFolder(place)
    assert.equal(existsSync(place), false)
  })

  test('refuses what it does not know', () => {
    for (const wrong of [['--nonsense'], ['-o', 'xml'], ['--fabric', 'x']]) {
      const { status, stderr } = spawnSync(process.execPath, [DOCTOR, ...wrong], { encoding: 'utf8' })
      assert.equal(status, 2, wrong.join(' '))
      assert.match(stderr, /^arcus: .*\(see `arcus doctor --help`\)$/m)
    }
  })
})
