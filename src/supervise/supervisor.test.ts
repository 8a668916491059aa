import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { systemClock } from '#lib/clock.ts'
import { identify, isRunning, readPidFile, type Identity } from './identity.ts'
import { stopProcess } from './stop.ts'
import {
  createSupervisor,
  LIMITS,
  backoffMs,
  pidFileOf,
  type Program,
  type ProgramState,
  type Supervisor,
} from './supervisor.ts'

const WAIT_MS_MAX = 10_000
const QUICK = { backoffMsMin: 20, backoffMsMax: 80, readyPollMs: 10, adoptedPollMs: 20 }
const root = mkdtempSync(join(tmpdir(), 'arcus-supervise-'))
const started: Identity[] = []

const supervisors: Supervisor[] = []

after(async () => {
  for (const it of supervisors) await it.stop()
  for (const it of started) await stopProcess(it, 0, systemClock)
  rmSync(root, { recursive: true })
})

async function until(what: string, condition: () => boolean): Promise<void> {
  for (const end = Date.now() + WAIT_MS_MAX; !condition(); await sleep(10)) {
    if (Date.now() > end) assert.fail(`in ${WAIT_MS_MAX} ms never: ${what}`)
  }
}

/** A folder with a program that notes each start in `starts`, then does `body`, and serves once `ready` is there. */
function stand(name: string, body: string, more: Partial<Program> = {}) {
  const folder = mkdtempSync(join(root, `${name}-`))
  const file = (it: string): string => join(folder, it)
  const note = (it: string): string =>
    `require('fs').appendFileSync(${JSON.stringify(file(it))}, process.pid + '\\n');`
  const script = `${note('starts')} const ready = () => { ${note('ready')} }; ${body}`
  const program: Program = {
    name,
    argv: [process.execPath, '-e', script],
    env: { PATH: '/usr/bin:/bin' },
    cwd: folder,
    ready: async () => readFileSync(file('ready'), 'utf8').split('\n').includes(String(pid())),
    readySecondsMax: 5,
    stopSecondsMax: 5,
    firstStartsMax: 2,
    ...more,
  }
  const pid = (): number => {
    const found = readPidFile(pidFileOf(folder, name))
    if (found) started.push(found.identity)
    return found?.identity.pid ?? 0
  }
  const starts = (): number =>
    existsSync(file('starts')) ? readFileSync(file('starts'), 'utf8').trim().split('\n').length : 0
  let states: readonly ProgramState[] = []
  const supervisor = (logs = folder): Supervisor => {
    const onChange = (now: readonly ProgramState[]): void => void (states = now)
    const made = createSupervisor({ folder, logs, clock: systemClock, limits: QUICK, onChange })
    supervisors.push(made)
    return made
  }
  return { folder, file, program, pid, starts, supervisor, state: () => states[0] }
}

const SERVE = 'ready(); setInterval(() => {}, 1e6)'

describe('a supervisor', () => {
  test('starts a program, says when it is ready and stops it', async () => {
    const it = stand('plain', SERVE)
    const supervisor = it.supervisor()
    await supervisor.start(it.program)
    const pid = it.pid()
    assert.deepEqual(it.state(), { name: 'plain', state: 'ready', pid, restarts: 0 })
    await supervisor.stop()
    assert.equal(identify(pid), undefined)
    assert.equal(existsSync(pidFileOf(it.folder, 'plain')), false)
  })

  test('restarts what dies, and waits longer each time', async () => {
    const it = stand('dying', SERVE)
    const supervisor = it.supervisor()
    await supervisor.start(it.program)
    for (const round of [1, 2, 3]) {
      const pid = it.pid()
      process.kill(pid, 'SIGKILL')
      await until(
        'a new process is ready',
        () => it.state()?.state === 'ready' && it.pid() !== pid && it.pid() > 0,
      )
      assert.equal(it.state()?.restarts, round)
    }
    assert.equal(it.starts(), 4)
    await supervisor.stop()
    const waits = [1, 2, 3, 20].map((failures) => backoffMs(failures, LIMITS))
    assert.deepEqual(waits, [200, 400, 800, LIMITS.backoffMsMax])
  })

  test('restarts what dies, and stops it, while nobody can be told', async () => {
    const it = stand('untold', SERVE)
    let isFull = false
    const onChange = (): void => {
      if (isFull) throw new Error('no space is left')
    }
    const supervisor = createSupervisor({
      folder: it.folder,
      logs: it.folder,
      clock: systemClock,
      limits: QUICK,
      onChange,
    })
    supervisors.push(supervisor)
    await supervisor.start(it.program)
    isFull = true
    process.kill(it.pid(), 'SIGKILL')
    await until('it is ready again', () => supervisor.states()[0]?.state === 'ready' && it.starts() === 2)
    await supervisor.stop()
    assert.equal(it.pid(), 0)
  })

  test('starts nothing whose pid file cannot be written: nobody would find it later', async () => {
    const it = stand('unknown', SERVE)
    mkdirSync(pidFileOf(it.folder, 'unknown'))
    const supervisor = it.supervisor()
    await assert.rejects(supervisor.start(it.program), /unknown did not start: ended with code/)
    assert.equal(it.starts(), 0)
    rmSync(pidFileOf(it.folder, 'unknown'), { recursive: true })
  })

  test('adopts a process that outlived its parent, watches it and stops it', async () => {
    const it = stand('adopted', SERVE)
    const first = it.supervisor()
    await first.start(it.program)
    const pid = it.pid()
    await first.leave()
    const second = it.supervisor()
    await second.start(it.program)
    assert.equal(it.pid(), pid)
    assert.equal(it.starts(), 1)
    process.kill(pid, 'SIGKILL')
    await until('it is started again', () => it.state()?.state === 'ready' && it.starts() === 2)
    await second.stop()
    assert.equal(it.pid(), 0)
  })

  test('leaves its programs running when it is killed', async () => {
    const it = stand('orphaned', SERVE)
    const parentFile = it.file('parent.ts')
    const modules = ['supervisor.ts', '../lib/clock.ts'].map((path) =>
      fileURLToPath(new URL(path, import.meta.url)),
    )
    writeFileSync(
      parentFile,
      `import { createSupervisor } from ${JSON.stringify(modules[0])}
       import { systemClock } from ${JSON.stringify(modules[1])}
       const program = ${JSON.stringify({ ...it.program, ready: undefined })}
       const supervisor = createSupervisor({ folder: ${JSON.stringify(it.folder)}, logs: ${JSON.stringify(it.folder)}, clock: systemClock })
       await supervisor.start({ ...program, ready: async () => true })
       await new Promise((resolve) => setTimeout(resolve, 1e6))`,
    )
    const parent = spawn(process.execPath, [parentFile], { stdio: 'inherit' })
    const ended = new Promise((resolve) => parent.once('exit', resolve))
    await until('it runs', () => existsSync(it.file('ready')) && it.pid() > 0)
    const pid = it.pid()
    parent.kill('SIGKILL')
    await ended
    assert.ok(identify(pid))
    const next = it.supervisor()
    await next.start(it.program)
    assert.equal(it.pid(), pid)
    await next.stop()
    assert.equal(identify(pid), undefined)
  })

  test('replaces a running process that was started in another way', async () => {
    const it = stand('changed', SERVE)
    const first = it.supervisor()
    await first.start(it.program)
    const pid = it.pid()
    await first.leave()
    const second = it.supervisor()
    await second.start({ ...it.program, env: { ...it.program.env, RELEASE: '2' } })
    assert.notEqual(it.pid(), pid)
    assert.equal(identify(pid), undefined)
    await second.stop()
  })

  test('says why a program never got ready, and leaves nothing of it', async () => {
    const failing = stand('failing', `console.error('arcus: port 80 is taken'); process.exit(3)`)
    const supervisor = failing.supervisor()
    await assert.rejects(
      supervisor.start(failing.program),
      /failing did not start: ended with code 3: arcus: port 80 is taken/,
    )
    assert.equal(failing.starts(), 2)
    assert.equal(failing.state()?.state, 'stopped')
    await supervisor.stop()

    const late = stand('late', 'setInterval(() => {}, 1e6)', { readySecondsMax: 0.2, firstStartsMax: 1 })
    const other = late.supervisor()
    await assert.rejects(other.start(late.program), /late did not start: not ready within 0.2 s/)
    await other.stop()
    assert.equal(late.pid(), 0)
  })

  test('kills what does not end when asked', async () => {
    const it = stand('stubborn', `process.on('SIGTERM', () => {}); ${SERVE}`, { stopSecondsMax: 0.2 })
    const supervisor = it.supervisor()
    await supervisor.start(it.program)
    const pid = it.pid()
    await supervisor.stop()
    assert.equal(identify(pid), undefined)
  })

  test('starts again when starting itself failed for a while', async () => {
    const it = stand('unwritable', SERVE)
    const logs = it.file('logs')
    const supervisor = it.supervisor(logs)
    await supervisor.start(it.program)
    rmSync(logs, { recursive: true })
    writeFileSync(logs, 'no folder')
    process.kill(it.pid(), 'SIGKILL')
    await until('it says what is wrong', () => /EEXIST|ENOTDIR/.test(it.state()?.detail ?? ''))
    rmSync(logs)
    await until('it runs again', () => it.state()?.state === 'ready')
    await supervisor.stop()
  })

  test('starts nothing once it was stopped', async () => {
    const it = stand('after', SERVE)
    const supervisor = it.supervisor()
    await supervisor.stop()
    await assert.rejects(supervisor.start(it.program), /after did not start: it was stopped/)
    assert.equal(it.starts(), 0)
  })

  test('stops the last one started first, and leaves alone what it is told to', async () => {
    const order = join(root, 'order')
    const noting = (name: string) =>
      stand(
        name,
        `process.on('SIGTERM', () => { require('fs').appendFileSync(${JSON.stringify(order)}, '${name} '); process.exit() }); ${SERVE}`,
      )
    const [one, two, three] = ['one', 'two', 'three'].map(noting)
    assert.ok(one && two && three)
    const supervisor = createSupervisor({
      folder: one.folder,
      logs: one.folder,
      clock: systemClock,
      limits: QUICK,
    })
    for (const it of [one, two, three]) {
      await supervisor.start({ ...it.program, ready: async () => existsSync(it.file('ready')) })
    }
    const kept = readPidFile(pidFileOf(one.folder, 'two'))?.identity
    assert.ok(kept)
    started.push(kept)
    await supervisor.stop(['two'])
    assert.equal(readFileSync(order, 'utf8'), 'three one ')
    assert.ok(isRunning(kept))
  })
})

test('a pid that was given to another process is not taken for ours', () => {
  const folder = mkdtempSync(join(root, 'reused-'))
  const path = join(folder, 'it.pid')
  const stat = readFileSync(`/proc/${process.pid}/stat`, 'utf8').trim()
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  writeFileSync(path, `abc ${boot} ${stat}\n`)
  assert.equal(readPidFile(path)?.identity.pid, process.pid)
  const start = String(identify(process.pid)?.start)
  writeFileSync(path, `abc ${boot} ${stat.replace(` ${start} `, ' 1 ')}\n`)
  assert.equal(readPidFile(path), undefined)
  writeFileSync(path, `abc 00000000-0000-0000-0000-000000000000 ${stat}\n`)
  assert.equal(readPidFile(path), undefined)
  writeFileSync(path, 'nonsense')
  assert.equal(readPidFile(path), undefined)
})
