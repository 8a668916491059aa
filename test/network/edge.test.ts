import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { silentLog } from '#lib/log.ts'
import { exampleZone } from '#cloud/edge/edge.conformance.ts'
import { remoteEdge } from '#drivers/edge/client.ts'
import { asUser } from '#setup/users.ts'

const run = promisify(execFile)

const RESOLVER = '100.112.0.1'
const CALLER = '100.112.0.9'
const NAMESPACE = `arcus-edge-${process.pid}`
const EDGE = { uid: 64_181, gid: 64_181 }
const CLOUD = { uid: 64_180, gid: 64_180 }
const OTHER = { uid: 64_999, gid: 64_999 }
const WAIT_MS_MAX = 15_000
const CAP_NET_BIND_SERVICE = 1n << 10n

const skip = process.getuid?.() === 0 ? false : 'needs root'
const root = join(import.meta.dirname, '../..')
const inside = (argv: readonly string[]): string[] => ['netns', 'exec', NAMESPACE, ...argv]
const ip = async (...args: string[]): Promise<unknown> => await run('ip', ['-n', NAMESPACE, ...args])
const signal = (): AbortSignal => AbortSignal.timeout(WAIT_MS_MAX)

/** What `look` gives as soon as it no longer fails. */
async function eventually<T>(look: () => Promise<T> | T): Promise<T> {
  for (const end = performance.now() + WAIT_MS_MAX; ; await sleep(50)) {
    try {
      return await look()
    } catch (error) {
      if (performance.now() > end) throw error
    }
  }
}

async function ask(name: string): Promise<{ rcode: string; data: string[] }> {
  const argv = [process.execPath, join(import.meta.dirname, 'edge.ask.ts'), RESOLVER, CALLER, name]
  const { stdout } = await run('ip', inside(argv), { timeout: WAIT_MS_MAX })
  return JSON.parse(stdout)
}

suite('the edge process', { skip }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'arcus-edge-'))
  const socket = join(folder, 'run/edge.sock')
  let edge: ChildProcess
  let said = ''

  const start = async (): Promise<void> => {
    const options = [
      '--data',
      join(folder, 'data'),
      '--socket',
      socket,
      '--owner',
      `${CLOUD.uid}:${CLOUD.gid}`,
    ]
    const argv = [process.execPath, join(root, 'src/edge.ts'), ...options, '--dns', `${RESOLVER}:53`]
    // `ip netns exec` becomes setpriv and that becomes Node, so the child is the edge itself.
    edge = spawn('ip', inside(asUser(EDGE, ['net_bind_service'], argv)), {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    edge.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()))
    const remote = remoteEdge({ socket, log: silentLog })
    await eventually(async () => await remote.list(signal()))
    await remote.close()
  }
  const end = async (how: NodeJS.Signals): Promise<number | null> => {
    const ended = once(edge, 'exit')
    edge.kill(how)
    const [code] = (await ended) as [number | null]
    return code
  }
  const occurrences = (text: string): number => said.split(text).length - 1

  before(async () => {
    chmodSync(folder, 0o711)
    mkdirSync(join(folder, 'data'), { mode: 0o700 })
    chownSync(join(folder, 'data'), EDGE.uid, EDGE.gid)
    mkdirSync(join(folder, 'run'))
    chownSync(join(folder, 'run'), EDGE.uid, CLOUD.gid)
    chmodSync(join(folder, 'run'), 0o2750)
    await run('ip', ['netns', 'add', NAMESPACE])
    await ip('link', 'set', 'lo', 'up')
    await ip('address', 'add', `${CALLER}/32`, 'dev', 'lo')
    await start()
  })
  after(async () => {
    if (edge.exitCode === null && edge.signalCode === null) await end('SIGKILL')
    await run('ip', ['netns', 'delete', NAMESPACE])
    rmSync(folder, { recursive: true, force: true })
  })

  test('runs without root, and may bind low ports and nothing else', () => {
    const status = readFileSync(`/proc/${edge.pid}/status`, 'utf8')
    assert.match(status, new RegExp(`^Uid:\\t${EDGE.uid}\\t${EDGE.uid}\\t`, 'm'))
    for (const set of ['CapEff', 'CapPrm', 'CapBnd']) {
      const [, hex = ''] = new RegExp(`^${set}:\\t(\\w+)`, 'm').exec(status) ?? []
      assert.equal(BigInt(`0x${hex}`), CAP_NET_BIND_SERVICE, set)
    }
  })

  test('lets the cloud use its socket and nobody else', async () => {
    assert.deepEqual([statSync(socket).mode & 0o777, statSync(socket).gid], [0o660, CLOUD.gid])
    const script = `require('net').connect(${JSON.stringify(socket)}).on('connect', () => process.exit(0))`
    const connects = async (user: typeof CLOUD): Promise<boolean> => {
      const [command = '', ...args] = asUser(user, [], [process.execPath, '-e', script])
      return await run(command, args, { cwd: '/' }).then(
        () => true,
        () => false,
      )
    }
    assert.deepEqual([await connects(CLOUD), await connects(OTHER)], [true, false])
  })

  test('waits for its address, says so once, and serves when it comes', async () => {
    const remote = remoteEdge({ socket, log: silentLog })
    await remote.apply(exampleZone({ callers: [CALLER] }), signal())
    await remote.close()
    await eventually(() => assert.equal(occurrences('cannot listen'), 1))
    assert.match(said, /EADDRNOTAVAIL/)
    await ip('address', 'add', `${RESOLVER}/32`, 'dev', 'lo')
    const answer = await eventually(async () => await ask('web'))
    assert.deepEqual(answer, { rcode: 'NOERROR', data: ['10.0.1.5'] })
    assert.equal(occurrences('cannot listen'), 1)
  })

  test('serves again when its address went and came back', async () => {
    await ip('address', 'delete', `${RESOLVER}/32`, 'dev', 'lo')
    await assert.rejects(ask('web'))
    await ip('address', 'add', `${RESOLVER}/32`, 'dev', 'lo')
    assert.deepEqual(await eventually(async () => await ask('web')), { rcode: 'NOERROR', data: ['10.0.1.5'] })
  })

  test('serves its last table after a kill, without the cloud', async () => {
    await end('SIGKILL')
    await start()
    assert.deepEqual(await eventually(async () => await ask('web')), { rcode: 'NOERROR', data: ['10.0.1.5'] })
    assert.equal((await ask('nothing')).rcode, 'NXDOMAIN')
  })

  test('ends well when it is told to', async () => {
    assert.equal(await end('SIGTERM'), 0)
    assert.equal(existsSync(socket), false)
  })

  test('says what is wrong with its command line', async () => {
    for (const [args, expected] of [
      [[], /needs --data DIR/],
      [['--data', 'x', '--socket', 'y', '--dns', 'somewhere'], /--dns takes ADDRESS:PORT/],
      [['--nothing'], /Unknown option/],
    ] as const) {
      const failed = run(process.execPath, [join(root, 'src/edge.ts'), ...args])
      await assert.rejects(failed, (error: { code?: number; stderr?: string }) => {
        assert.match(error.stderr ?? '', expected)
        return error.code === 2
      })
    }
  })
})
