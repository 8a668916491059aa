import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { machineLayout } from '#setup/layout.ts'
import { DEFAULT_DATA } from '#setup/options.ts'
import { runningParent } from '#setup/parent.ts'
import { readRecord } from '#setup/record.ts'
import { findUser } from '#setup/users.ts'
import { identify, readPidFile } from '#supervise/identity.ts'
import { takeLock } from '#supervise/lock.ts'
import { pidFileOf } from '#supervise/supervisor.ts'
import { ARCUS } from '../program.ts'

// The whole way of `up` and `down` on this machine, as an operator goes it.

const COMMAND_MS_MAX = 120_000
const WAIT_MS_MAX = 30_000
const layout = machineLayout(DEFAULT_DATA)
const inUse = existsSync(layout.data) || readRecord() !== undefined
const skip =
  inUse && process.env['CI'] !== 'true' ? `${layout.data} holds data that this would remove` : false

type Said = { readonly code: number | string; readonly stdout: string; readonly stderr: string }

const arcus = (...args: string[]): Promise<Said> =>
  new Promise((resolve) => {
    execFile(ARCUS, args, { timeout: COMMAND_MS_MAX }, (error, stdout, stderr) => {
      resolve({ code: error ? (error.code ?? String(error.signal)) : 0, stdout, stderr })
    })
  })

async function succeeds(...args: string[]): Promise<Said> {
  const said = await arcus(...args)
  assert.equal(said.code, 0, `arcus ${args.join(' ')}: ${said.stderr}`)
  return said
}

async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + WAIT_MS_MAX; !(await condition()); await sleep(50)) {
    if (Date.now() > end) assert.fail(`in ${WAIT_MS_MAX} ms never: ${what}`)
  }
}

const pidOf = (name: string): number | undefined => readPidFile(pidFileOf(layout.run, name))?.identity.pid
const allPids = (): (number | undefined)[] => ['agent', 'edge', 'cloud'].map(pidOf)

function listening(): Promise<{ server: Server; port: number }> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address()
      resolve({ server, port: typeof address === 'object' && address ? address.port : 0 })
    })
  })
}

/** A field of /proc/PID/status. */
const statusOf = (pid: number | undefined, field: string): string | undefined =>
  new RegExp(`^${field}:[ \\t]*(.*)$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]?.trim()

describe('up and down', { skip, concurrency: false }, () => {
  let listen = ''
  let url = ''
  const healthy = (): Promise<boolean> =>
    fetch(`${url}/healthz`, { signal: AbortSignal.timeout(2000) }).then(
      (it) => it.ok,
      () => false,
    )
  before(async () => {
    const { server, port } = await listening()
    await new Promise((resolve) => server.close(resolve))
    listen = `127.0.0.1:${port}`
    url = `http://${listen}`
  })
  after(async () => {
    await arcus('down', '--purge')
  })

  test('a taken port is refused before anything is made', async () => {
    const { server, port } = await listening()
    const said = await arcus('up', '--detach', '--listen', `127.0.0.1:${port}`)
    await new Promise((resolve) => server.close(resolve))
    assert.equal(said.code, 1)
    assert.match(
      said.stderr,
      new RegExp(`^arcus: 127\\.0\\.0\\.1:${port} is taken by .*--listen HOST:PORT$`, 'm'),
    )
    assert.equal(existsSync(layout.data), false)
    assert.equal(findUser('arcus'), undefined)
  })

  test('up --detach returns when requests are served, and says how to begin', async () => {
    const { stdout } = await succeeds('up', '--detach', '--listen', listen, '--login-rate', '50')
    const admin = JSON.parse(readFileSync(join(layout.data, 'cloud/admin.json'), 'utf8')) as {
      password: string
      token: string
    }
    for (const part of [url, admin.password, admin.token])
      assert.ok(stdout.includes(part), `${part} in ${stdout}`)
    assert.ok(await healthy())
    const answer = await fetch(`${url}/circloud/tenants`, { headers: { 'x-admin-token': admin.token } })
    assert.equal(answer.status, 200)
  })

  test('the doctor finds its own cloud, and nothing that it requires missing', async () => {
    const said = await arcus('doctor', '-o', 'json')
    const { fit, checks } = JSON.parse(said.stdout) as {
      fit: boolean
      checks: { id: string; state: string; seen: string; required: boolean }[]
    }
    const bad = checks.filter((it) => it.required && !['ok', 'limited'].includes(it.state))
    assert.deepEqual([bad, fit, said.code], [[], true, 0])
    const seen = Object.fromEntries(checks.map((it) => [it.id, it.seen]))
    assert.equal(seen['installation'], 'Arcus runs here')
    assert.equal(seen[`port-${listen.split(':')[1]}`], `Arcus listens on ${listen}`)
    assert.equal(seen['permissions'], 'no other account can read the data')
  })

  test('only the agent is root; the others have their own accounts and no capability but low ports', () => {
    assert.equal(statusOf(pidOf('agent'), 'Uid')?.split('\t')[0], '0')
    for (const [name, account, capabilities] of [
      ['edge', 'arcus-edge', 0x400],
      ['cloud', 'arcus', 0],
    ] as const) {
      const pid = pidOf(name)
      assert.equal(statusOf(pid, 'Uid')?.split('\t')[1], String(findUser(account)?.uid))
      assert.equal(statusOf(pid, 'Groups'), '')
      for (const set of ['CapEff', 'CapPrm', 'CapBnd']) {
        assert.equal(Number.parseInt(statusOf(pid, set) ?? '', 16), capabilities, `${set} of ${name}`)
      }
      assert.equal(statusOf(pid, 'NoNewPrivs'), '1')
    }
    assert.equal(statSync(join(layout.data, 'cloud/admin.json')).mode & 0o777, 0o600)
    const said = readFileSync(join(layout.logs, 'cloud.log'), 'utf8')
    const { token } = JSON.parse(readFileSync(join(layout.data, 'cloud/admin.json'), 'utf8')) as {
      token: string
    }
    assert.ok(!said.includes(token))
  })

  test('a repeated up touches nothing and says the same, also when it is refused', async () => {
    const pids = allPids()
    const { server, port } = await listening()
    assert.equal((await arcus('up', '--detach', '--listen', `127.0.0.1:${port}`)).code, 1)
    await new Promise((resolve) => server.close(resolve))
    const elsewhere = await arcus('up', '--detach', '--data', `${layout.data}-other`)
    assert.match(elsewhere.stderr, /^arcus: Arcus already runs with its data in .*arcus down/m)
    assert.equal(elsewhere.code, 1)
    const { stdout } = await succeeds('up', '--detach')
    assert.ok(stdout.includes(url))
    assert.deepEqual(allPids(), pids)
  })

  test('the processes outlive their parent, and the next one adopts them', async () => {
    const parent = runningParent(layout.run)?.parent
    assert.ok(parent)
    const pids = allPids()
    process.kill(parent.pid, 'SIGKILL')
    await until('the parent is gone', () => runningParent(layout.run) === undefined)
    await succeeds('up', '--detach')
    assert.deepEqual(allPids(), pids)
    assert.notEqual(runningParent(layout.run)?.parent.pid, parent.pid)
  })

  test('a process that dies is started again', async () => {
    const pids = allPids()
    for (const pid of pids) if (pid) process.kill(pid, 'SIGKILL')
    await until('all are new', () => allPids().every((it, index) => it !== undefined && it !== pids[index]))
    await until('it answers', healthy)
  })

  test('an up with another option replaces the process that it is for, alone', async () => {
    const [agent, edge, cloud] = allPids()
    await succeeds('up', '--detach', '--log-level', 'warn')
    const now = allPids()
    assert.deepEqual(now.slice(0, 2), [agent, edge])
    assert.ok(now[2] !== undefined && now[2] !== cloud)
    assert.ok(await healthy())
    assert.deepEqual(
      readRecord()?.more,
      ['--log-level', 'warn', '--login-rate', '50'],
      'what was told before stays',
    )
  })

  test('down stops everything and keeps the data; up goes on from there, also in the foreground', async () => {
    const pids = allPids()
    await succeeds('down')
    for (const pid of pids) assert.equal(identify(pid ?? 0), undefined)
    assert.equal(runningParent(layout.run), undefined)
    await succeeds('down')
    const before = readFileSync(join(layout.data, 'cloud/admin.json'), 'utf8')
    const foreground = spawn(ARCUS, ['up'], { stdio: ['ignore', 'pipe', 'inherit'] })
    const ended = new Promise((resolve) => foreground.once('exit', resolve))
    let said = ''
    foreground.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
    await until('it says where it is', () => said.includes(url))
    assert.ok(await healthy())
    assert.equal(readFileSync(join(layout.data, 'cloud/admin.json'), 'utf8'), before)
    // As another `up` does, which may begin as soon as this one has started.
    mkdirSync(join(layout.programs, 'another'))
    foreground.kill('SIGINT')
    assert.equal(await ended, 0)
    assert.deepEqual(allPids(), [undefined, undefined, undefined])
    assert.ok(existsSync(join(layout.programs, 'another')), 'what a later up has installed stays')
  })

  test('down --purge leaves nothing, however often', async () => {
    await succeeds('up', '--detach')
    const up = takeLock(join(layout.run, 'up.lock'))
    const early = await arcus('down', '--purge')
    up?.release()
    assert.deepEqual([early.code, /another `arcus up`.* is at work/.test(early.stderr)], [1, true])
    assert.ok(existsSync(layout.data) && findUser('arcus') !== undefined)
    await succeeds('down', '--purge')
    for (const path of [
      ...Object.values(layout),
      '/etc/arcus',
      '/run/arcus-host/arcus.lock',
      '/etc/docker/plugins/arcus.spec',
    ]) {
      assert.equal(existsSync(path), false, path)
    }
    assert.equal(findUser('arcus'), undefined)
    assert.equal(findUser('arcus-edge'), undefined)
    await succeeds('down', '--purge')
  })
})
