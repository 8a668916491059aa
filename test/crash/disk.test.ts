import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterEach, describe, test } from 'node:test'
import { programFile } from '../program.ts'
import { run } from '../e2e/host.testing.ts'
import { eventually } from '../e2e/wait.testing.ts'
import { differences } from './agreement.testing.ts'
import { type CloudProcess, cloudProcess } from './process.testing.ts'
import { type SimulatedWorld, simulatedWorld } from './world.testing.ts'

// A data folder on a small disk that gets full, or read-only: what is refused says so in the dialect's own shape, what is
// there can be read, nothing acknowledged is lost, and it goes on by itself when it can.
const MEMORY_BYTES = 8 << 20
const DISK_BYTES = 24 << 20
const FILL_BYTES = 4096
/** Less than the smallest database. */
const BACKUP_DISK_BYTES = 64 << 10
const WRITES_MAX = 2000
const SETTLES_MS = 20_000

type Disk = { readonly path: string; remount(options: string): Promise<void>; break(): Promise<void> }
type Refusal = { error?: { code: string; message: string }; detail?: string }

describe('a data folder that cannot be written', { concurrency: false }, () => {
  let stack = new AsyncDisposableStack()
  afterEach(async () => {
    await stack.disposeAsync()
    stack = new AsyncDisposableStack()
  })

  async function folder(): Promise<string> {
    const path = await mkdtemp(join(tmpdir(), 'arcus-disk-'))
    stack.defer(() => rm(path, { recursive: true, force: true }))
    return path
  }
  async function mounted(...source: string[]): Promise<Disk> {
    const path = join(await folder(), 'disk')
    mkdirSync(path)
    const mount = (): Promise<string> => run('mount', ...source, path)
    await mount()
    stack.defer(async () => void (await run('umount', path)))
    return {
      path,
      async remount(options) {
        await run('mount', '-o', `remount,${options}`, path)
      },
      // As the kernel does by itself when it finds a file system broken.
      async break() {
        const device = basename((await run('findmnt', '-no', 'SOURCE', path)).trim())
        writeFileSync(`/sys/fs/ext4/${device}/trigger_fs_error`, '1')
      },
    }
  }
  const memoryDisk = (): Promise<Disk> => mounted('-t', 'tmpfs', '-o', `size=${MEMORY_BYTES}`, 'arcus-test')
  async function realDisk(): Promise<Disk> {
    const image = join(await folder(), 'image')
    await run('truncate', '-s', String(DISK_BYTES), image)
    await run('mkfs.ext4', '-q', image)
    return mounted('-o', 'loop,errors=remount-ro', image)
  }

  type Cloud = {
    data: string
    cloud: CloudProcess
    world: SimulatedWorld
    token: string
    vpc: string
    subnet: string
  }
  async function cloudOn(disk: Disk): Promise<Cloud> {
    const world = stack.use(await simulatedWorld(join(await folder(), 'world')))
    const data = join(disk.path, 'data')
    const cloud = stack.use(await cloudProcess({ data, world }))
    await cloud.start()
    const made = async (path: string, body: unknown, token?: string): Promise<Record<string, string>> => {
      const answer = await cloud.ask('POST', path, body, token === undefined ? {} : { token })
      assert.equal(answer.status, 201, JSON.stringify(answer.body))
      return answer.body as Record<string, string>
    }
    const { api_token: token = '' } = await made('/circloud/tenants', { name: 'acme', password: 'gui-pw' })
    const { id: vpc = '' } = await made('/native/vpc', { name: 'v', spec: { internet: true } }, token)
    const spec = { vpc, cidr: '10.100.1.0/24' }
    const { id: subnet = '' } = await made('/native/subnet', { name: 's', spec }, token)
    return { data, cloud, world, token, vpc, subnet }
  }
  const create = ({ cloud, token, vpc, subnet }: Cloud, name: string) =>
    cloud.ask(
      'POST',
      '/native/workload',
      { name, spec: { vpc, subnet, image: 'idle', replicas: 1 } },
      { token },
    )
  const names = async ({ cloud, token }: Cloud): Promise<string[]> => {
    const { status, body } = await cloud.ask('GET', '/native/workload?limit=1000', undefined, { token })
    assert.equal(status, 200)
    return (body as { items: { name: string }[] }).items.map((it) => it.name).sort()
  }
  /** Writes until one is refused; gives what was acknowledged. */
  async function writeUntilRefused(
    it: Cloud,
    prefix: string,
  ): Promise<{ acknowledged: string[]; refused: string }> {
    const acknowledged: string[] = []
    for (let n = 0; n < WRITES_MAX; n++) {
      const name = `${prefix}-${n}`
      const { status, body } = await create(it, name)
      if (status === 201) acknowledged.push(name)
      else {
        assert.equal(status, 503, JSON.stringify(body))
        const { error } = body as Refusal
        assert.equal(error?.code, 'unavailable')
        assert.match(
          error?.message ?? '',
          /^the data folder cannot be written \(.+\); (free some space|see whether)/,
        )
        return { acknowledged, refused: name }
      }
    }
    return assert.fail('nothing was refused')
  }
  /** Each API in its own shape; what only reads goes on. */
  async function refusesAndReads(it: Cloud, there: readonly string[]): Promise<void> {
    const { status, body } = await it.cloud.ask('POST', '/circloud/tenants', {
      name: 'late',
      password: 'gui-pw',
    })
    assert.equal(status, 503)
    assert.match((body as Refusal).detail ?? '', /^the data folder cannot be written/)
    assert.deepEqual(await names(it), [...there].sort())
    assert.equal((await it.cloud.ask('GET', '/circloud/healthz')).status, 200)
    assert.equal((await it.cloud.ask('GET', '/circloud/pods', undefined, { token: it.token })).status, 200)
  }
  const agree = (it: Cloud): Promise<true> =>
    eventually(
      'records and world agree',
      async () => {
        const ask = (method: string, path: string) =>
          it.cloud.ask(method, `/native${path}`, undefined, { token: it.token })
        const found = await differences([ask], it.world)
        if (found.length > 0) throw new Error(found.join('\n'))
        return true as const
      },
      SETTLES_MS,
    )

  test('full: refused and read on, and by itself again when there is space', async () => {
    const disk = await memoryDisk()
    const it = await cloudOn(disk)
    assert.equal((await create(it, 'before')).status, 201)
    await agree(it)
    const filler = join(disk.path, 'filler')
    const file = await open(filler, 'w')
    await assert.rejects(
      async () => {
        for (;;) await file.write(Buffer.alloc(FILL_BYTES))
      },
      { code: 'ENOSPC' },
    )
    await file.close()
    const { acknowledged, refused } = await writeUntilRefused(it, 'full')
    const there = ['before', ...acknowledged]
    await refusesAndReads(it, there)
    // Long enough for looks to fail, be put back and fail again, and for a sweep and an audit.
    const until = performance.now() + 3000
    while (performance.now() < until) await refusesAndReads(it, there)
    await rm(filler)
    await eventually(
      'writes are taken again',
      async () => (await create(it, 'after')).status === 201,
      SETTLES_MS,
    )
    assert.equal((await create(it, refused)).status, 201, 'what was refused was not done')
    await agree(it)
    await it.cloud.kill()
    await it.cloud.start()
    assert.deepEqual(await names(it), [...there, 'after', refused].sort())
    await agree(it)
  })

  test('full at the start: refused with a sentence, and nothing is lost', async () => {
    const disk = await memoryDisk()
    const it = await cloudOn(disk)
    assert.equal((await create(it, 'before')).status, 201)
    const filler = join(disk.path, 'filler')
    const file = await open(filler, 'w')
    await file.write(Buffer.alloc(MEMORY_BYTES)).catch(() => {})
    await file.write(Buffer.alloc(MEMORY_BYTES)).catch(() => {})
    await file.close()
    await it.cloud.kill()
    await assert.rejects(it.cloud.start())
    assert.match(it.cloud.said(), /^arcus: the data folder \S+ cannot be written \(.+\); free some space/m)
    await rm(filler)
    await it.cloud.start()
    assert.deepEqual(await names(it), ['before'])
    await agree(it)
  })

  test('read-only at the start: refused with a sentence', async () => {
    const disk = await memoryDisk()
    const it = await cloudOn(disk)
    await it.cloud.kill()
    await disk.remount('ro')
    await assert.rejects(it.cloud.start())
    assert.match(it.cloud.said(), /^arcus: The data folder \S+ cannot be used \(EROFS: .+\); choose another/m)
    await disk.remount('rw')
    await it.cloud.start()
    await agree(it)
  })

  test('a backup to a full disk: refused with a sentence, and nothing is left there', async () => {
    const it = await cloudOn(await memoryDisk())
    const target = await mounted('-t', 'tmpfs', '-o', `size=${BACKUP_DISK_BYTES}`, 'arcus-test')
    await assert.rejects(
      run(process.execPath, programFile('backup'), join(target.path, 'x.tar'), '--data', it.data),
      (error: Error) => {
        assert.match(error.message, /^arcus: .+(No space left|no space is left|free some space)/m)
        assert.doesNotMatch(error.message, /^\s+at /m)
        return true
      },
    )
    assert.deepEqual(readdirSync(target.path), [])
    assert.equal((await create(it, 'after')).status, 201)
  })

  const canBreak = existsSync('/sys/fs/ext4')
  test('read-only while it runs: as when full', { skip: !canBreak && 'no ext4 here' }, async () => {
    const disk = await realDisk()
    assert.ok(readdirSync('/sys/fs/ext4').length > 0)
    const it = await cloudOn(disk)
    assert.equal((await create(it, 'before')).status, 201)
    await agree(it)
    await disk.break()
    const { acknowledged } = await writeUntilRefused(it, 'broken')
    assert.deepEqual(acknowledged, [])
    const until = performance.now() + 3000
    while (performance.now() < until) await refusesAndReads(it, ['before'])
  })
})
