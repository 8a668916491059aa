import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ComputeDriver, ContainerWish, SeenContainer } from '#cloud/compute/compute.driver.ts'
import { type AgentProcess, HOST, agentProcess } from './agent.ts'
import { networkOptions } from '#drivers/docker/networks.ts'
import {
  addressOf,
  ask,
  endBy,
  fabricOf,
  furnish,
  heldIn,
  makeRoom,
  never,
  type Room,
  scratch,
} from './bench.ts'
import { type Daemon, openDaemon, run, until } from './daemon.ts'

/** Docker and the agent go away and come back, in every order; what the wishes say must be true again each time. */
export function restarts(): void {
  describe('Docker and the agent going away', { concurrency: 1 }, () => {
    const PREFIX = 'atr'
    const SERVE = 'echo begun; mkdir -p /tmp/w; hostname > /tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w'
    /** Docker with its plugin at its side starts as if it had none; without, it would need 15 s. */
    const DAEMON_START_MS_MAX = 12_000
    /** The patrol would notice it too, within 30 s. */
    const EVENT_MS_MAX = 10_000
    const AGENT_ANSWERS_MS_MAX = 10_000

    const stack = new AsyncDisposableStack()
    // The same addresses in both: the VPCs of two tenants overlap.
    const [near, far] = [makeRoom(98, 1), makeRoom(98, 2)]
    let daemon: Daemon
    let agent: AgentProcess
    let compute: ComputeDriver
    let folder: string
    const wishes: { room: Room; it: ContainerWish }[] = []

    before(async () => {
      daemon = stack.use(await openDaemon(PREFIX, 98))
      folder = stack.use(await scratch()).path
      agent = stack.use(agentProcess({ folder, prefix: PREFIX, docker: daemon.socket }))
      await agent.start()
      compute = agent.drivers.compute
      stack.defer(async () => {
        await agent.stop('SIGKILL')
        await agent.start()
        await compute.purge(never)
        await agent.drivers.network.purge(never)
        await agent.stop('SIGTERM')
      })
      await furnish(agent.drivers.network, [near, far])
      // Docker sets IPv6 in this one, as one that was made for a later Docker, or by an earlier version.
      await daemon.client.createNetwork(networkOptions(PREFIX, PREFIX, { label: '' }, heldIn(far), true))
      for (const room of [near, far]) {
        for (const healing of [true, false]) {
          wishes.push({
            room,
            it: room.wish({
              healing,
              user: '0',
              command: ['sh', '-c', SERVE],
              hostname: `web-${wishes.length}`,
            }),
          })
        }
      }
      for (const { it } of wishes) await compute.apply(it, never)
      await allServe()
    })
    after(() => stack.disposeAsync())

    const reaches = (address: string): Promise<boolean> =>
      new Promise((resolve) => {
        const socket = connect({ host: address, port: 8080, timeout: 500 })
        const end = (reached: boolean) => (): void => {
          socket.destroy()
          resolve(reached)
        }
        socket.on('connect', end(true)).on('error', end(false)).on('timeout', end(false))
      })

    const seen = async (id: string): Promise<SeenContainer | undefined> => {
      try {
        return await compute.observe(id, never)
      } catch (error) {
        if ((error as { code?: string }).code === 'unavailable') return undefined
        throw error
      }
    }

    /** Every wish runs with its own address and is reached by its fabric address. */
    async function allServe(ms = 25_000): Promise<void> {
      for (const { room, it } of wishes) {
        const serves = async (): Promise<boolean> =>
          (await seen(it.id))?.state === 'running' && (await reaches(fabricOf(room, it.id)))
        await until(`${it.hostname} serves`, serves, ms).catch(async (error: unknown) => {
          throw new Error(`it is seen as ${JSON.stringify(await seen(it.id))}`, { cause: error })
        })
        const shown = await ask(compute, it.id, 'ip -o addr show eth0; cat /etc/resolv.conf')
        assert.ok(shown.includes(`inet ${addressOf(room, it.id)}/24`), shown)
        assert.match(shown, /inet6 fd77:[0-9a-f:]+\/128/)
        assert.match(await ask(compute, it.id, 'ip -6 route'), /default via fe80::1/)
        assert.match(shown, /nameserver 169\.254\.169\.253/)
      }
      assert.equal((await compute.list(never)).length, wishes.length)
    }

    const containerOf = async (id: string) => daemon.client.getContainer((await seen(id))?.runtimeId ?? '')

    test('two VPCs with the same addresses, each reaches its own', async () => {
      for (const { room, it } of wishes) {
        const peer = wishes.find((other) => other.room === room && other.it !== it)
        assert.ok(peer)
        const page = `wget -q -O - http://${addressOf(room, peer.it.id)}:8080/`
        assert.equal(await ask(compute, it.id, page), peer.it.hostname)
      }
    })

    test('a restart by hand keeps address and reachability', async () => {
      for (const { it } of wishes) await (await containerOf(it.id)).restart({ t: 0 })
      await allServe()
      for (const { it } of wishes) assert.equal((await seen(it.id))?.restarts, 1)
    })

    test('a container removed by hand is made again', async () => {
      const { it } = wishes[0] ?? assert.fail()
      const before = (await seen(it.id))?.runtimeId
      await (await containerOf(it.id)).remove({ force: true })
      await until('another container', async () => {
        const now = await seen(it.id)
        return now?.state === 'running' && now.runtimeId !== before
      })
      await allServe()
    })

    test('a killed container is noticed when it dies', async () => {
      const { it } = wishes[0] ?? assert.fail()
      const before = (await seen(it.id))?.restarts ?? 0
      const stop = new AbortController()
      const first = compute.events(stop.signal)[Symbol.asyncIterator]().next()
      await sleep(100)
      const killed = performance.now()
      await (await containerOf(it.id)).kill()
      assert.equal((await first).value?.id, it.id)
      assert.ok(performance.now() - killed < EVENT_MS_MAX)
      stop.abort()
      await until('it runs again', async () => (await seen(it.id))?.restarts === before + 1)
      await allServe()
    })

    test('the agent killed: containers serve on, and what died meanwhile is started', async () => {
      const [first, second] = wishes
      assert.ok(first && second)
      const dying = await containerOf(second.it.id)
      await agent.stop('SIGKILL')
      // Docker cannot finish a death without its plugin: it answers only when the agent is back.
      const killed = dying.kill()
      await until('it is dead', async () => !(await reaches(fabricOf(second.room, second.it.id))))
      assert.ok(await reaches(fabricOf(first.room, first.it.id)))
      await agent.start()
      await killed
      await allServe()
    })

    test('Docker restarted with the agent up: it starts at once and everything is back', async () => {
      await daemon.stop('SIGTERM')
      assert.ok((await daemon.start()) < DAEMON_START_MS_MAX)
      await allServe()
    })

    test('Docker killed with the agent up: everything is back', async () => {
      await daemon.stop('SIGKILL')
      await daemon.start()
      await allServe()
    })

    test('Docker killed amid a start: what it had begun is ended, and then it starts', async () => {
      const wish = near.wish()
      const runs = async (): Promise<boolean> => (await seen(wish.id))?.state === 'running'
      await compute.apply(wish, never)
      await until('it runs', runs)
      const runtimeId = (await seen(wish.id))?.runtimeId ?? ''
      const root = join(folder, 'root')
      const exported = `docker -H unix://${daemon.socket} export ${runtimeId} | tar -x -C ${root}`
      await run('sh', ['-c', `mkdir ${root} && ${exported}`])
      await compute.apply({ ...wish, power: 'off' }, never)
      await until('it is off', async () => (await seen(wish.id))?.state === 'off')
      await daemon.stop('SIGKILL')
      // What is left when it dies between having containerd start a container and noting that it has.
      const containerd = ['--address', daemon.runtime, '--namespace', 'moby']
      const how = ['--detach', '--cgroup', `docker/${runtimeId}`, '--env', 'PATH=/bin:/usr/bin']
      await run('ctr', [...containerd, 'run', ...how, '--rootfs', root, runtimeId, 'sleep', '1000'])
      await compute.apply(wish, never)
      await daemon.start()
      await until('it runs again', runs)
      await compute.remove(wish.id, never)
      await until('it is gone', async () => (await seen(wish.id)) === undefined)
      await allServe()
    })

    test('Docker restarted, the agent some seconds later', async () => {
      await daemon.stop('SIGTERM')
      await agent.stop('SIGTERM')
      const started = daemon.start()
      await sleep(2500)
      await agent.start()
      await started
      await allServe()
    })

    test('the agent before Docker: the plugin serves, containers wait', async () => {
      await daemon.stop('SIGTERM')
      await agent.stop('SIGKILL')
      await agent.start()
      const { it } = wishes[0] ?? assert.fail()
      await assert.rejects(compute.observe(it.id, never), { code: 'unavailable' })
      assert.match((await compute.missing(never)).join(), /no Docker answers/)
      // What is wished meanwhile waits too, and keeps nobody from being answered.
      const late = {
        room: near,
        it: near.wish({ command: ['sh', '-c', SERVE], user: '0', hostname: 'late' }),
      }
      await compute.apply(late.it, AbortSignal.timeout(AGENT_ANSWERS_MS_MAX))
      await agent.drivers.network.list(AbortSignal.timeout(AGENT_ANSWERS_MS_MAX))
      wishes.push(late)
      assert.ok((await daemon.start()) < DAEMON_START_MS_MAX)
      await allServe()
      wishes.pop()
      await compute.remove(late.it.id, never)
      await until('it is gone', async () => (await seen(late.it.id)) === undefined)
    })

    test('what ended by itself without healing stays ended, over restarts of both', async () => {
      const it = near.wish({ healing: false })
      await compute.apply(it, never)
      await until('it runs', async () => (await seen(it.id))?.state === 'running')
      await endBy(compute, it.id, 7)
      await until('it ended', async () => (await seen(it.id))?.state === 'exited')
      // The verdict that it ended by itself needs Docker to have gone on for a moment.
      await sleep(2000)
      await agent.stop('SIGKILL')
      await agent.start()
      await daemon.stop('SIGTERM')
      await daemon.start()
      wishes.push({ room: near, it })
      for (const other of wishes.slice(0, -1)) {
        await until(`${other.it.hostname} runs`, async () => (await seen(other.it.id))?.state === 'running')
      }
      const now = await seen(it.id)
      assert.equal(now?.state, 'exited')
      assert.equal(now.exitCode, 7)
      assert.equal(now.restarts, 0)
      wishes.pop()
      await compute.remove(it.id, never)
      await until('it is gone', async () => (await seen(it.id)) === undefined)
    })

    test('the agent killed again and again under changes: every wish and nothing else', async () => {
      const extra = Array.from({ length: 6 }, () => near.wish({ name: 'churn' }))
      const kept = new Set<string>()
      const insist = async (what: () => Promise<void>): Promise<void> => {
        for (let tries = 0; tries < 200; tries++) {
          try {
            return await what()
          } catch (error) {
            if ((error as { code?: string }).code !== 'unavailable') throw error
            await sleep(50)
          }
        }
        assert.fail('the agent stayed away')
      }
      const churn = (async () => {
        for (const it of extra) {
          await insist(() => compute.apply(it, never))
          kept.add(it.id)
          await sleep(150)
        }
        for (const it of extra.slice(0, 3)) {
          await insist(() => compute.remove(it.id, never))
          kept.delete(it.id)
          await sleep(100)
        }
        for (const it of extra.slice(3, 5)) await insist(() => compute.apply({ ...it, attempt: 2 }, never))
      })()
      for (let round = 0; round < 4; round++) {
        await sleep(120 + round * 97)
        await agent.stop('SIGKILL')
        await agent.start()
      }
      await churn
      const settled = async (): Promise<boolean> => {
        const all = await compute.list(never).catch(() => [])
        const others = all.filter((it) => !wishes.some((wish) => wish.it.id === it.id))
        const attempts = new Map(extra.slice(3, 5).map((it) => [it.id, 2]))
        return (
          others.length === kept.size &&
          others.every(
            (it) => kept.has(it.id) && it.state === 'running' && it.attempt === (attempts.get(it.id) ?? 1),
          )
        )
      }
      // One that runs may still be of the attempt before.
      await until('exactly what is wished', settled)
      const real = await daemon.client.listContainers({ all: true })
      assert.equal(real.length, wishes.length + kept.size)
      for (const id of kept) await compute.remove(id, never)
      await until('they are gone', async () => (await compute.list(never)).length === wishes.length)
      await allServe()
    })

    test('after the loss of what is held, its containers are orphans that can be removed', async () => {
      await agent.stop('SIGTERM')
      await run('rm', ['-r', join(folder, 'agent/containers/wishes')])
      await agent.start()
      await until(
        'Docker is seen',
        async () => (await compute.list(never).catch(() => [])).length === wishes.length,
      )
      for (const it of await compute.list(never)) {
        assert.equal(it.wanted, false)
        await compute.remove(it.id, never)
      }
      await until('they are gone', async () => (await compute.list(never)).length === 0)
      for (const { it } of wishes) await compute.apply(it, never)
      await allServe()
    })

    test('a second agent on the same folder says who holds it', async () => {
      const args = [HOST, '--data', join(folder, 'agent'), '--socket', join(folder, 'second.sock')]
      const error = await run(process.execPath, args).then(
        () => assert.fail('it started'),
        (failed: { stderr: string; code: number }) => failed,
      )
      assert.equal(error.code, 1)
      assert.ok(error.stderr.includes(`process ${agent.pid}`), error.stderr)
    })

    test('a purge by the program leaves nothing in Docker, on the host and where Docker looks', async () => {
      await agent.stop('SIGTERM')
      const purge = [
        HOST,
        '--data',
        join(folder, 'agent'),
        '--prefix',
        PREFIX,
        '--docker',
        daemon.socket,
        '--purge',
      ]
      await run(process.execPath, purge)
      assert.deepEqual(await daemon.client.listContainers({ all: true }), [])
      const networks = await daemon.client.listNetworks({ filters: { label: ['arcus.instance'] } })
      assert.deepEqual(networks, [])
      const left = await run('sh', [
        '-c',
        `ip netns; ip -br link; ls /etc/docker/plugins /run/docker/plugins`,
      ])
      assert.doesNotMatch(left.stdout, new RegExp(`\\b${PREFIX}(-|\\.s)`))
      await agent.start()
    })
  })
}
