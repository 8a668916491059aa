import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isCloudError } from '#lib/errors.ts'
import type { ComputeDriver, ContainerWish, LogEntry, SeenContainer, VolumeWish } from './compute.driver.ts'

/** A driver and the world around it, as the suite needs them. */
export type ComputeBench = AsyncDisposable & {
  readonly driver: ComputeDriver
  /** A wish with a place in a network: it runs until it is told to end, and says `begun` first. Each has its own id. */
  wish(change?: Partial<ContainerWish>): ContainerWish
  /** Name of an image that cannot be had. */
  readonly missingImage: string
  /** Lets the container's process end with this code, as by itself. */
  exit(id: string, code: number): Promise<void>
  /** Lets time pass until `look` is true; throws when that takes too long. */
  until(what: string, look: () => Promise<boolean>): Promise<void>
}

const never = new AbortController().signal
const isLostRace = (error: unknown): boolean =>
  isCloudError(error, 'conflict') && error.details.rule === 'lost_race'

/** What every ComputeDriver promises, asked through its interface alone. `open` gives one without containers. */
export function computeConformance(name: string, open: () => Promise<ComputeBench>): void {
  const check = (what: string, run: (bench: ComputeBench, tools: Tools) => Promise<void>): void => {
    test(what, async () => {
      await using bench = await open()
      await run(bench, toolsOf(bench))
    })
  }

  describe(`${name}: applying`, () => {
    check('a wish becomes a running container', async ({ driver, wish }, { running }) => {
      const it = wish()
      await driver.apply(it, never)
      const seen = await running(it)
      assert.equal(seen.ready, true)
      assert.equal(seen.workload, it.workload)
      assert.equal(seen.restarts, 0)
      assert.equal(seen.wanted, true)
      assert.ok(seen.runtimeId)
      assert.ok((seen.startedAt ?? 0) > 0)
    })

    check('the same wish again changes nothing', async ({ driver, wish }, { running }) => {
      const it = wish()
      await driver.apply(it, never)
      const before = await running(it)
      await driver.apply(it, never)
      await driver.apply(structuredClone(it), never)
      assert.deepEqual(await running(it), before)
    })

    check('changed files of its own reach the same container', async ({ driver, wish }, { running }) => {
      const file = { name: 'variables/a', content: 'YQ==', mode: 0o444, uid: 0, gid: 0 }
      const it = wish({ inside: { files: [file] } })
      await driver.prepare(it.id, never)
      await driver.prepare(it.id, never)
      await driver.apply(it, never)
      const before = await running(it)
      await driver.apply({ ...it, inside: { files: [{ ...file, content: 'Yg==' }] } }, never)
      assert.deepEqual(await running(it), before)
    })

    check('more cpu and memory reach the same container', async ({ driver, wish }, { running }) => {
      const it = wish()
      await driver.apply(it, never)
      const before = await running(it)
      await driver.apply({ ...it, cpuMillicores: it.cpuMillicores * 2, memoryMib: it.memoryMib * 2 }, never)
      const after = await running(it)
      assert.equal(after.runtimeId, before.runtimeId)
      assert.equal(after.restarts, 0)
    })

    check('a higher attempt replaces it, a lower one is refused', async ({ driver, wish }, { running }) => {
      const it = wish()
      await driver.apply(it, never)
      const before = await running(it)
      const next = { ...it, attempt: 2 }
      await driver.apply(next, never)
      const after = await running(next)
      assert.notEqual(after.runtimeId, before.runtimeId)
      assert.equal(after.restarts, 0)
      await assert.rejects(driver.apply(it, never), isLostRace)
      assert.deepEqual(await running(next), after)
    })
  })

  describe(`${name}: power`, () => {
    check(
      'frozen it is not ready, and goes on as the same',
      async ({ driver, wish }, { running, inState }) => {
        const it = wish()
        await driver.apply(it, never)
        const before = await running(it)
        await driver.apply({ ...it, power: 'paused' }, never)
        assert.equal((await inState(it, 'paused')).ready, false)
        await driver.apply({ ...it, power: 'paused', memoryMib: it.memoryMib * 2 }, never)
        await driver.apply(it, never)
        assert.deepEqual(await running(it), before)
      },
    )

    check('switched off it keeps what it has, and no restart is counted', async (bench, tools) => {
      const { driver } = bench
      const it = bench.wish({ stopGraceSeconds: 0 })
      await driver.apply(it, never)
      const before = await tools.running(it)
      for (let n = 0; n < 2; n++) {
        await driver.apply({ ...it, power: 'off', stopGraceSeconds: 0 }, never)
        const off = await tools.inState(it, 'off')
        assert.deepEqual([off.ready, off.wanted], [false, true])
        await driver.apply(it, never)
        const now = await tools.running(it)
        assert.deepEqual([now.runtimeId, now.restarts], [before.runtimeId, 0])
      }
    })

    check('one that is frozen can be switched off, and one that is off removed', async (bench, tools) => {
      const { driver } = bench
      const it = bench.wish({ stopGraceSeconds: 0 })
      await driver.apply({ ...it, power: 'paused' }, never)
      await tools.inState(it, 'paused')
      await driver.apply({ ...it, power: 'off' }, never)
      await tools.inState(it, 'off')
      await driver.remove(it.id, never)
      await bench.until('it is gone', async () => (await driver.observe(it.id, never)) === undefined)
    })
  })

  describe(`${name}: failing and ending`, () => {
    check('an image that cannot be had fails and says which', async (bench, { running, inState }) => {
      const { driver } = bench
      const it = bench.wish({ image: bench.missingImage })
      await driver.apply(it, never)
      const seen = await inState(it, 'failed')
      assert.ok(seen.message?.includes(bench.missingImage), `its message is: ${seen.message}`)
      assert.equal(seen.ready, false)
      const next = { ...it, image: bench.wish().image, attempt: 2 }
      await driver.apply(next, never)
      await running(next)
    })

    check('with healing it is started again', async ({ driver, wish, exit, until }, { running }) => {
      const it = wish({ healing: true })
      await driver.apply(it, never)
      await running(it)
      await exit(it.id, 3)
      await until('one restart', async () => (await driver.observe(it.id, never))?.restarts === 1)
      assert.equal((await running(it)).restarts, 1)
    })

    check('without healing it stays ended, with its code', async (bench, { running, inState }) => {
      const { driver } = bench
      const it = bench.wish({ healing: false })
      await driver.apply(it, never)
      await running(it)
      await bench.exit(it.id, 3)
      const seen = await inState(it, 'exited')
      assert.equal(seen.exitCode, 3)
      assert.equal(seen.ready, false)
      await driver.apply(it, never)
      assert.equal((await inState(it, 'exited')).restarts, 0)
      const next = { ...it, attempt: 2 }
      await driver.apply(next, never)
      await running(next)
    })
  })

  describe(`${name}: removing and listing`, () => {
    check('a removed one goes, and may be removed again', async ({ driver, wish, until }, { running }) => {
      const it = wish()
      await driver.apply(it, never)
      await running(it)
      await driver.remove(it.id, never)
      assert.notEqual((await driver.observe(it.id, never))?.wanted, true)
      await until('it is gone', async () => (await driver.observe(it.id, never)) === undefined)
      await driver.remove(it.id, never)
      assert.deepEqual(await driver.list(never), [])
    })

    check('one that failed can be removed', async (bench, { inState }) => {
      const { driver } = bench
      const it = bench.wish({ image: bench.missingImage })
      await driver.apply(it, never)
      await inState(it, 'failed')
      await driver.remove(it.id, never)
      await bench.until('it is gone', async () => (await driver.observe(it.id, never)) === undefined)
    })

    check('one that is not there is undefined, and fine to remove', async ({ driver, wish }) => {
      const { id } = wish()
      assert.equal(await driver.observe(id, never), undefined)
      await driver.remove(id, never)
      await assert.rejects(driver.exec(id, { command: ['true'], tty: false }, never), (error) =>
        isCloudError(error),
      )
    })

    check('the list shows what observe shows', async ({ driver, wish }, { running }) => {
      const wishes = [wish(), wish(), wish()]
      for (const it of wishes) await driver.apply(it, never)
      for (const it of wishes) await running(it)
      const byId = (all: readonly SeenContainer[]) => all.toSorted((a, b) => (a.id < b.id ? -1 : 1))
      const observed = await Promise.all(wishes.map((it) => driver.observe(it.id, never)))
      assert.deepEqual(byId(await driver.list(never)), byId(observed.filter((it) => it !== undefined)))
    })

    check('volumes stay until they are removed', async ({ driver, wish, until }, { running }) => {
      const first = wish()
      const it = { ...first, mounts: [{ volume: first.workload, path: '/data', readOnly: false }] }
      await driver.apply(it, never)
      await running(it)
      assert.deepEqual(await driver.volumes(never), [it.workload])
      await driver.remove(it.id, never)
      await until('it is gone', async () => (await driver.observe(it.id, never)) === undefined)
      assert.deepEqual(await driver.volumes(never), [it.workload])
      await driver.removeVolume(it.workload, never)
      await driver.removeVolume(it.workload, never)
      assert.deepEqual(await driver.volumes(never), [])
    })

    check('a volume of a size is made, mounted, copied and grown', async (bench, { running }) => {
      const { driver, until } = bench
      const first = bench.wish()
      const [volume, copy] = [first.workload, first.tenant]
      /** Asked for at each look, as whoever reconciles does: a volume grows once the last container has let it go. */
      const ready = async (wish: VolumeWish): Promise<void> =>
        await until(`${wish.id} has ${wish.sizeGib} GiB`, async () => {
          await driver.applyVolume(wish, never)
          const seen = await driver.observeVolume(wish.id, never)
          assert.notEqual(seen?.state, 'failed', seen?.message ?? '')
          return seen?.state === 'ready' && seen.sizeGib === wish.sizeGib
        })
      assert.equal(await driver.observeVolume(volume, never), undefined)
      await ready({ id: volume, sizeGib: 1 })
      const it = { ...first, mounts: [{ volume, path: '/data', readOnly: false, disk: true }] }
      await driver.apply(it, never)
      await running(it)
      await ready({ id: copy, sizeGib: 1, from: volume })
      assert.deepEqual((await driver.volumes(never)).toSorted(), [volume, copy].toSorted())
      await assert.rejects(driver.removeVolume(volume, never), (error) => isCloudError(error, 'conflict'))
      await driver.remove(it.id, never)
      await until('it is gone', async () => (await driver.observe(it.id, never)) === undefined)
      await ready({ id: volume, sizeGib: 2 })
      for (const id of [volume, copy]) await driver.removeVolume(id, never)
      assert.deepEqual(await driver.volumes(never), [])
      assert.equal(await driver.observeVolume(volume, never), undefined)
    })

    check('a purge leaves nothing', async ({ driver, wish }, { running }) => {
      const first = wish()
      const it = { ...first, mounts: [{ volume: first.workload, path: '/data', readOnly: false }] }
      await driver.apply(it, never)
      await running(it)
      await driver.purge(never)
      assert.deepEqual(await driver.list(never), [])
      assert.deepEqual(await driver.volumes(never), [])
    })
  })

  describe(`${name}: looking inside`, () => {
    check('a running one has samples and logs', async ({ driver, wish, until }, { running }) => {
      const it = wish()
      await driver.apply(it, never)
      await running(it)
      await until('a sample', async () => (await driver.samples(never)).some(({ id }) => id === it.id))
      let entries: LogEntry[] = []
      await until('a line', async () => {
        entries = []
        for await (const entry of driver.logs(it.id, { tail: 10 }, never)) entries.push(entry)
        return entries.length > 0
      })
      for (const entry of entries) assert.ok(entry.cursor && entry.at > 0 && entry.line)
    })

    check(
      'its image is there to be fetched again, and one that is nowhere fails',
      async ({ driver, wish, until }, { running }) => {
        const it = wish()
        const here = { tenant: it.tenant, image: it.image, ...(it.registry ? { registry: it.registry } : {}) }
        await driver.apply(it, never)
        await running(it)
        await driver.fetchImage(here, never)
        assert.equal((await driver.observeImage(here, never)).state, 'present')
        // Of its own name: why one failed is remembered, and another run may have asked the same host.
        const nowhere = { tenant: it.tenant, image: `localhost:1/missing/image:${it.id}` }
        assert.equal((await driver.observeImage(nowhere, never)).state, 'absent')
        await driver.fetchImage(nowhere, never)
        await until('a failure', async () => (await driver.observeImage(nowhere, never)).state === 'failed')
        assert.ok((await driver.observeImage(nowhere, never)).message)
      },
    )

    check('a command runs and gives what it writes and its code', async ({ driver, wish }, { running }) => {
      const it = wish()
      await driver.apply(it, never)
      await running(it)
      const session = await driver.exec(it.id, { command: ['echo', 'hello'], tty: false }, never)
      let text = ''
      for await (const chunk of session.stream) text += String(chunk)
      assert.match(text, /hello/)
      assert.equal(await session.exitCode, 0)
    })

    check('what happens is told', async ({ driver, wish, exit, until }, { running }) => {
      const it = wish({ healing: true })
      const stop = new AbortController()
      const told: string[] = []
      const listening = (async () => {
        for await (const event of driver.events(stop.signal)) told.push(event.id)
      })()
      await driver.apply(it, never)
      await running(it)
      await until('the start is told', () => Promise.resolve(told.includes(it.id)))
      told.length = 0
      await exit(it.id, 1)
      await until('the end is told', () => Promise.resolve(told.includes(it.id)))
      stop.abort()
      await listening
    })
  })
}

type Tools = {
  /** Waits until it runs, ready, in the attempt of its wish. */
  running(wish: ContainerWish): Promise<SeenContainer>
  inState(wish: ContainerWish, state: SeenContainer['state']): Promise<SeenContainer>
}

function toolsOf({ driver, until }: ComputeBench): Tools {
  const seenAs = async (
    wish: ContainerWish,
    what: string,
    fits: (seen: SeenContainer) => boolean,
  ): Promise<SeenContainer> => {
    let found: SeenContainer | undefined
    await until(`${wish.id} is ${what}`, async () => {
      const seen = await driver.observe(wish.id, never)
      found = seen?.attempt === wish.attempt && fits(seen) ? seen : undefined
      return found !== undefined
    })
    assert.ok(found)
    return found
  }
  return {
    running: (wish) => seenAs(wish, 'running', (it) => it.state === 'running' && it.ready),
    inState: (wish, state) => seenAs(wish, state, (it) => it.state === state),
  }
}
