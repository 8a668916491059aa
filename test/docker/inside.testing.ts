import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdir, readdir, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type {
  ContainerWish,
  ExecSession,
  InsideFile,
  LogEntry,
  SeenContainer,
} from '#cloud/compute/compute.driver.ts'
import { systemClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import { type Accept, openSockets } from '#drivers/inside/sockets.ts'
import { type LocalHost, localHost } from '../../src/local-host.ts'
import { CACHE_DEFAULT } from '../fixtures/build.ts'
import { pushTo, startRegistry } from '../fixtures/registry.ts'
import { startSlowRegistry } from './slow-registry.testing.ts'
import { addressOf, ask, endBy, furnish, makeRoom, never, scratch } from './bench.ts'
import { type Daemon, openDaemon, run, until } from './daemon.ts'

/** What a container is made of and how it looks from inside; and looking into it from outside. */
export function inside(): void {
  describe('what a container is made of', { concurrency: 1 }, () => {
    const stack = new AsyncDisposableStack()
    const room = makeRoom(97, 1)
    let daemon: Daemon
    let host: LocalHost
    let folder: string

    before(async () => {
      daemon = stack.use(await openDaemon('ati', 97, ['idle:latest', 'arcus-probe:latest']))
      folder = stack.use(await scratch()).path
      host = await localHost({
        directory: folder,
        prefix: 'ati',
        docker: daemon.socket,
        clock: systemClock,
        log: silentLog,
      })
      stack.defer(async () => {
        await host.compute.purge(never)
        await host.network.purge(never)
        await host.close()
      })
      await furnish(host.network, [room])
    })
    after(() => stack.disposeAsync())

    const seen = (id: string): Promise<SeenContainer | undefined> => host.compute.observe(id, never)

    async function inState(wish: ContainerWish, state: SeenContainer['state']): Promise<SeenContainer> {
      let now: SeenContainer | undefined
      const is = async (): Promise<boolean> => {
        now = await seen(wish.id)
        return now?.state === state && now.attempt === wish.attempt
      }
      await until(`${wish.id} is ${state}`, is).catch((error: unknown) => {
        throw new Error(`it is seen as ${JSON.stringify(now)}`, { cause: error })
      })
      return now ?? assert.fail()
    }

    async function begin(change: Partial<ContainerWish> = {}): Promise<ContainerWish> {
      const wish = room.wish(change)
      await host.compute.apply(wish, never)
      await inState(wish, 'running')
      return wish
    }

    async function remove({ id }: ContainerWish): Promise<void> {
      await host.compute.remove(id, never)
      await until('it is gone', async () => (await seen(id)) === undefined)
    }

    const inspect = async (wish: ContainerWish) =>
      daemon.client.getContainer((await seen(wish.id))?.runtimeId ?? '').inspect()

    const root = { user: '0' } as const

    describe('the fence around a container', () => {
      test('few capabilities, no new privileges, seccomp', async () => {
        const it = await begin(root)
        const status = await ask(host.compute, it.id, 'cat /proc/1/status')
        // CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID NET_BIND_SERVICE SYS_CHROOT AUDIT_WRITE
        const mask = [0, 1, 3, 4, 5, 6, 7, 10, 18, 29].reduce((sum, bit) => sum + 2 ** bit, 0)
        const hex = mask.toString(16).padStart(16, '0')
        for (const set of ['CapPrm', 'CapEff', 'CapBnd'])
          assert.match(status, new RegExp(`${set}:\\s+${hex}`))
        assert.match(status, /NoNewPrivs:\s+1/)
        assert.match(status, /Seccomp:\s+2/)
        assert.doesNotMatch(await ask(host.compute, it.id, 'cat /proc/self/cgroup'), /docker/)
        for (const attempt of [
          'mount -t tmpfs none /mnt',
          'mknod /tmp/disk b 254 0',
          'echo 1 > /proc/sys/kernel/panic',
          'chroot /proc/1/root mount -o remount,rw /proc/sys',
          'echo 127.0.0.1 > /etc/resolv.conf',
          'nsenter -t 1 -n true && ip link del eth0',
        ]) {
          await assert.rejects(ask(host.compute, it.id, attempt), attempt)
        }
        await remove(it)
      })

      test('a capability that the host allows is added, another is refused', async () => {
        const it = await begin({ ...root, capabilities: ['NET_RAW'] })
        assert.match(await ask(host.compute, it.id, 'cat /proc/1/status'), /CapEff:\s+00000000200424fb/)
        const bad = { ...it, attempt: 2, capabilities: ['SYS_ADMIN'] }
        await assert.rejects(host.compute.apply(bad, never), { code: 'invalid', message: /SYS_ADMIN/ })
        await remove(it)
      })

      test('limits hold, and change while it runs', async () => {
        const it = await begin({ memoryMib: 48, cpuMillicores: 250, pidsMax: 24 })
        const before = (await inspect(it)).HostConfig
        assert.equal(before.Memory, 48 << 20)
        assert.equal(before.MemorySwap, 48 << 20)
        assert.equal(before.NanoCpus, 250_000_000)
        assert.equal(before.PidsLimit, 24)
        assert.equal(before.RestartPolicy?.Name, 'no')
        assert.deepEqual(before.LogConfig, {
          Type: 'json-file',
          Config: { 'max-file': '3', 'max-size': '10m' },
        })
        await host.compute.apply({ ...it, memoryMib: 64, cpuMillicores: 750 }, never)
        await until('the new limits', async () => {
          const { Memory, NanoCpus } = (await inspect(it)).HostConfig
          return Memory === 64 << 20 && NanoCpus === 750_000_000
        })
        await assert.rejects(ask(host.compute, it.id, 'for i in $(seq 40); do sleep 20 & done'), /fork/)
        await remove(it)
      })

      test('one that uses more than its memory is ended, and says so', async () => {
        const hog = ['sh', '-c', 'sleep 0.5; x=abcdefghij; while true; do x=$x$x$x$x; done']
        const it = room.wish({ memoryMib: 16, healing: false, command: hog })
        await host.compute.apply(it, never)
        const now = await inState(it, 'exited')
        assert.equal(now.exitCode, 137)
        // Docker says why a moment after it says that.
        await until('told that it was the memory', async () =>
          /memory/.test((await host.compute.observe(it.id, never))?.message ?? ''),
        )
        await remove(it)
      })

      test('name, address, hosts, resolver and environment', async () => {
        const env = { QUOTED: `a "b" 'c' $HOME`, LINES: 'one\ntwo', EMPTY: '' }
        const it = await begin({ env, hostname: 'db-3' })
        const address = addressOf(room, it.id)
        assert.equal(await ask(host.compute, it.id, 'hostname'), 'db-3')
        assert.equal(
          await ask(host.compute, it.id, 'echo "$QUOTED|$LINES|$EMPTY"'),
          `a "b" 'c' $HOME|one\ntwo|`,
        )
        assert.match(await ask(host.compute, it.id, 'cat /etc/hosts'), new RegExp(`${address}\\s+db-3`))
        assert.equal(
          await ask(host.compute, it.id, 'cat /etc/resolv.conf'),
          'nameserver 169.254.169.253\nsearch bench.internal\noptions ndots:2',
        )
        const links = await ask(host.compute, it.id, 'ip -o addr show eth0; ip -6 route; ip route')
        assert.ok(links.includes(`inet ${address}/24`))
        assert.match(links, /inet6 fd77:1::[0-9a-f]+\/128/)
        assert.match(links, /default via fe80::1/)
        assert.match(links, /default via 10\.77\.0\.1/)
        const info = await inspect(it)
        assert.match(info.Name, /^\/ati-bench-[0-9a-f]{12}$/)
        await remove(it)
      })

      test('IPv6 that was taken away comes back', async () => {
        const it = await begin()
        const { address6 = '' } = room.plan.attachments.find((place) => place.id === it.id) ?? {}
        const has = async (): Promise<boolean> => {
          const shown = await ask(host.compute, it.id, 'ip -6 addr show dev eth0; ip -6 route')
          return shown.includes(`inet6 ${address6}/128`) && shown.includes('default via fe80::1')
        }
        // A machine that is held up has it a moment after the program's start.
        await until('it has its IPv6', has)

        const namespace = `--net=/proc/${(await inspect(it)).State.Pid}/ns/net`
        await run('nsenter', [namespace, 'ip', '-6', 'addr', 'flush', 'dev', 'eth0', 'scope', 'global'])
        assert.equal(await has(), false)
        // Whatever has it looked at.
        await host.compute.apply(it, never)
        await until('it has its IPv6 again', has)
        await remove(it)
      })

      test("nothing of Docker's own answers for names", async (t) => {
        const { Version: version } = await daemon.client.version()
        if (Number(version.split('.')[0]) > 25)
          return t.skip(`Docker ${version} has its resolver in every container`)
        const it = await begin()
        // Docker's would listen on ports of 127.0.0.11, of its own choice.
        assert.doesNotMatch(await ask(host.compute, it.id, 'cat /proc/net/udp /proc/net/tcp'), /0B00007F:/)
        await remove(it)
      })

      test('a volume is shared, kept and can be read-only', async () => {
        const first = room.wish()
        const volume = first.workload
        const mount = { volume, path: '/data', readOnly: false }
        const writer = await begin({ mounts: [mount] })
        const reader = await begin({ mounts: [{ ...mount, readOnly: true }] })
        await ask(host.compute, writer.id, 'echo kept > /data/note')
        assert.equal(await ask(host.compute, reader.id, 'cat /data/note'), 'kept')
        await assert.rejects(ask(host.compute, reader.id, 'echo x > /data/note'), /Read-only/)
        await assert.rejects(host.compute.removeVolume(volume, never), { code: 'conflict' })
        const next = { ...writer, attempt: 2 }
        await host.compute.apply(next, never)
        await inState(next, 'running')
        assert.equal(await ask(host.compute, writer.id, 'cat /data/note'), 'kept')
        await remove(writer)
        await remove(reader)
        await host.compute.removeVolume(volume, never)
        assert.deepEqual(await host.compute.volumes(never), [])
      })

      test('its own socket and files, seen by any user, written by none, and by no other container', async (t) => {
        const instances = join(folder, 'containers/instances')
        const sockets = openSockets({
          folder: instances,
          make: host.compute.prepare,
          clock: systemClock,
          log: silentLog,
        })
        const answer: Accept = (socket, replica) => void socket.on('error', () => {}).end(`${replica}\n`)
        t.after(() => sockets.close())
        await sockets.serve(answer)
        const file = (name: string, text: string, more: Partial<InsideFile> = {}): InsideFile => ({
          name,
          content: Buffer.from(text).toString('base64'),
          mode: 0o440,
          uid: 0,
          gid: 4242,
          ...more,
        })
        const files = [
          file('variables/shared', 'one'),
          file('variables/roots', 'secret', { mode: 0o400 }),
          file('variables/placed', 'there', { at: '/etc/app/placed' }),
        ]
        const user = { user: '4242:4242', image: 'arcus-probe:latest', memoryMib: 128 }
        const wishes = [
          room.wish({ ...user, inside: { files } }),
          room.wish({ ...user, inside: { files: [] } }),
        ]
        for (const it of wishes) {
          await sockets.ensure(it.id, never)
          await host.compute.apply(it, never)
        }
        const dial = `require('net').connect('/var/run/cycle/api/api.sock').pipe(process.stdout)`
        const CONNECT = `node -e "${dial}"`
        for (const it of wishes) {
          await inState(it, 'running')
          assert.equal(await ask(host.compute, it.id, CONNECT), it.id)
          assert.equal(await ask(host.compute, it.id, 'ls /var/run/cycle/api'), 'api.sock')
          for (const path of ['api/x', 'x', 'variables/x', 'metadata/x'])
            await assert.rejects(ask(host.compute, it.id, `echo > /var/run/cycle/${path}`), /Read-only/)
          await assert.rejects(ask(host.compute, it.id, 'rm /var/run/cycle/api/api.sock'), /Read-only/)
        }
        const [one, other] = wishes as [ContainerWish, ContainerWish]
        const read = (path: string): Promise<string> => ask(host.compute, one.id, `cat ${path}`)
        assert.equal(await read('/var/run/cycle/variables/shared'), 'one')
        assert.equal(await read('/etc/app/placed'), 'there')
        await assert.rejects(read('/var/run/cycle/variables/roots'), /Permission denied/)
        assert.equal(await ask(host.compute, other.id, 'ls /var/run/cycle/variables'), '')
        const before = await seen(one.id)
        const changed = [file('variables/shared', 'two'), ...files.slice(2)]
        await host.compute.apply({ ...one, inside: { files: changed } }, never)
        assert.equal(await read('/var/run/cycle/variables/shared'), 'two')
        assert.equal(await ask(host.compute, one.id, 'ls /var/run/cycle/variables'), 'placed\nshared')
        // What made the sockets ends, and the next begins: the container goes on with the same mount.
        await sockets.close()
        await assert.rejects(ask(host.compute, one.id, CONNECT))
        await sockets.serve(answer)
        assert.equal(await ask(host.compute, one.id, CONNECT), one.id)
        assert.equal((await seen(one.id))?.runtimeId, before?.runtimeId)
        assert.deepEqual(await host.compute.audit(never), [])
        for (const it of wishes) await remove(it)
        assert.deepEqual(await readdir(instances), [])
        assert.deepEqual(await readdir(join(folder, 'containers/inside')), [])
      })

      test('what was left where a volume is mounted is not taken for the volume', async () => {
        const first = room.wish({ image: 'arcus-probe:latest', memoryMib: 128 })
        const volume = first.workload
        const containers = join(folder, 'containers')
        const [at, file] = [join(containers, 'volumes', volume), join(containers, 'volumes-disks', volume)]
        // As an agent leaves it that is killed while it makes the volume.
        await run('truncate', ['--size', '1G', `${file}.next`])
        await run('mkfs.ext4', ['-q', '-F', `${file}.next`])
        await mkdir(at)
        await run('mount', ['-o', 'loop', `${file}.next`, at])
        await until('the volume is there', async () => {
          await host.compute.applyVolume({ id: volume, sizeGib: 1 }, never)
          return (await host.compute.observeVolume(volume, never))?.state === 'ready'
        })
        const it = { ...first, mounts: [{ volume, path: '/data', readOnly: false, disk: true }] }
        await host.compute.apply(it, never)
        await inState(it, 'running')
        await ask(host.compute, it.id, 'echo kept > /data/kept && sync')
        await remove(it)
        assert.equal((await run('debugfs', ['-R', 'cat /kept', file])).stdout, 'kept\n')
        await host.compute.removeVolume(volume, never)
        assert.deepEqual(await readdir(join(containers, 'volumes')), [])
        assert.equal((await run('losetup', ['--associated', file])).stdout, '')
      })

      test('one that is asked for before its network is there starts once the plan is in force', async () => {
        const other = makeRoom(97, 2)
        const it = other.wish()
        await host.compute.apply(it, never)
        await until('it waits', async () => /its network/.test((await seen(it.id))?.message ?? ''))
        // Held, and not in force: the agent brings it there before it starts anything.
        await assert.rejects(host.network.apply(other.plan, AbortSignal.abort()))
        await inState(it, 'running')
        assert.deepEqual((await host.network.observe(other.plan.vpc, never))?.drift, [])
        await remove(it)
        await host.network.remove(other.plan.vpc, never)
      })

      test('a command that is not there fails at once', async () => {
        const it = room.wish({ command: ['/no/such/program'] })
        await host.compute.apply(it, never)
        const now = await inState(it, 'failed')
        assert.match(now.message ?? '', /\/no\/such\/program cannot be run/)
        await remove(it)
      })

      test('what is left over of containers is found, and removed where it is nobody’s', async () => {
        const it = await begin()
        const [mine] = await daemon.client.listNetworks({
          filters: { label: [`arcus.subnet=${it.subnet}`] },
        })
        const [subnet, gone, lost, odd] = [randomUUID(), randomUUID(), randomUUID(), randomUUID()]
        await daemon.client.createNetwork({
          Name: `ati-${subnet}`,
          Internal: true,
          Labels: { ...mine?.Labels, 'arcus.subnet': subnet },
        })
        const containers = join(folder, 'containers')
        const file = (...names: string[]): string => join(containers, ...names)
        const long = new Date(Date.now() - 3_600_000)
        const [resolv, wish, cut, mount] = [
          file('resolv', gone),
          file('wishes', `${odd}.json`),
          file('wishes', `${odd}.json.next`),
          file('mounted'),
        ]
        const own = file('inside', lost)
        await mkdir(own)
        await utimes(own, long, long)
        await writeFile(resolv, 'nameserver 192.0.2.53\n')
        for (const path of [wish, cut]) await writeFile(path, '{')
        await utimes(cut, long, long)
        await mkdir(mount)
        execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4k', 'none', mount])
        const found = async (): Promise<string[]> =>
          (await host.compute.audit(never)).map((one) => `${one.what} ${one.thing}: ${one.detail}`).toSorted()
        const forOthers = [`drift file: wish ${wish} cannot be read`, `orphan mount: mount at ${mount}`]
        try {
          assert.deepEqual(
            await found(),
            [
              ...forOthers,
              `orphan docker network: network ati-${subnet} of a subnet that is gone`,
              `orphan file: ${resolv} of a container that is gone`,
              `orphan file: ${own} of a container that is gone`,
              `orphan file: file ${cut} was left over`,
            ].toSorted(),
          )
          await host.compute.mend(never)
          assert.deepEqual(await found(), forOthers)
          const [, ofMount] = await host.compute
            .audit(never)
            .then((all) => all.toSorted((a, b) => (a.thing < b.thing ? -1 : 1)))
          assert.deepEqual(ofMount?.mend, { command: `umount ${mount}` })
        } finally {
          execFileSync('umount', [mount])
        }
        // The wish is somebody's: whoever asks for its end has it removed.
        await host.compute.remove(odd, never)
        assert.deepEqual(await found(), [])
        assert.equal((await seen(it.id))?.state, 'running')
        await remove(it)
      })

      test('a subnet that goes takes its network in Docker along, and not its last container', async () => {
        const other = makeRoom(97, 3)
        const networks = () =>
          daemon.client.listNetworks({ filters: { label: [`arcus.subnet=${other.plan.subnets[0]?.id}`] } })
        await host.network.apply(other.plan, never)
        assert.equal((await networks()).length, 0)
        const it = other.wish()
        await host.compute.apply(it, never)
        await inState(it, 'running')
        await remove(it)
        assert.equal((await networks()).length, 1)
        assert.deepEqual(await host.compute.audit(never), [])
        await host.network.apply({ ...other.plan, generation: 2, subnets: [], attachments: [] }, never)
        await until('no network', async () => (await networks()).length === 0)
        await host.network.remove(other.plan.vpc, never)
      })
    })

    describe('health', () => {
      const health = { intervalSeconds: 1, timeoutSeconds: 1, failuresMax: 2, startSeconds: 0 }
      const serve = 'mkdir -p /tmp/w && echo ok > /tmp/w/ok && httpd -p 8080 -h /tmp/w'
      const checks = {
        tcp: { check: { type: 'tcp', port: 8080 }, break: 'killall httpd' },
        http: { check: { type: 'http', port: 8080, path: '/ok' }, break: 'rm /tmp/w/ok' },
        command: { check: { type: 'command', command: ['test', '-f', '/tmp/w/ok'] }, break: 'rm /tmp/w/ok' },
      } as const
      for (const [name, { check, break: harm }] of Object.entries(checks)) {
        test(`by ${name}: ready when it passes, not when it stops passing`, async () => {
          const it = await begin({ health: { ...health, check } })
          assert.equal((await seen(it.id))?.ready, false)
          await ask(host.compute, it.id, serve)
          await until('ready', async () => (await seen(it.id))?.ready === true)
          await ask(host.compute, it.id, harm)
          await until('not ready', async () => (await seen(it.id))?.ready === false)
          assert.equal((await seen(it.id))?.state, 'running')
          await remove(it)
        })
      }
    })

    describe('logs', () => {
      const collect = async (it: AsyncIterable<LogEntry>, max: number): Promise<LogEntry[]> => {
        const entries: LogEntry[] = []
        for await (const entry of it) if (entries.push(entry) >= max) break
        return entries
      }
      const numbers = 'i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo line $i; done; sleep 1000'

      test('every line once, from the start and from any cursor', async () => {
        const it = await begin({ command: ['sh', '-c', numbers] })
        const all = await collect(host.compute.logs(it.id, { follow: true }, never), 40)
        const lines = all.map((entry) => entry.line)
        assert.deepEqual(
          lines,
          Array.from({ length: 40 }, (_, n) => `line ${n + 1}`),
        )
        assert.equal(new Set(all.map((entry) => entry.cursor)).size, 40)
        for (const at of [0, 17, 38]) {
          const rest = await collect(host.compute.logs(it.id, { after: all[at]?.cursor ?? '' }, never), 99)
          assert.deepEqual(
            rest.map((entry) => entry.line),
            lines.slice(at + 1),
          )
        }
        const tail = await collect(host.compute.logs(it.id, { tail: 3 }, never), 99)
        assert.deepEqual(
          tail.map((entry) => entry.line),
          lines.slice(-3),
        )
        await remove(it)
      })

      test('both streams, long lines, and on over a restart', async () => {
        const script = 'echo out; echo err >&2; head -c 50000 /dev/zero | tr "\\0" x; echo; exec sleep 1000'
        const it = await begin({ command: ['sh', '-c', script] })
        const stop = new AbortController()
        const following = collect(host.compute.logs(it.id, { follow: true }, stop.signal), 6)
        await daemon.client.getContainer((await seen(it.id))?.runtimeId ?? '').kill()
        const entries = await following
        assert.deepEqual(entries.map(({ stream, line }) => `${stream} ${line.length}`).toSorted(), [
          'stderr 3',
          'stderr 3',
          'stdout 3',
          'stdout 3',
          'stdout 50000',
          'stdout 50000',
        ])
        stop.abort()
        await remove(it)
      })

      test('following ends when the container has ended for good', async () => {
        const it = await begin({ healing: false })
        const following = collect(host.compute.logs(it.id, { follow: true }, never), 99)
        await endBy(host.compute, it.id, 0)
        assert.deepEqual(
          (await following).map((entry) => entry.line),
          ['begun'],
        )
        await remove(it)
      })

      test('of what is not there', async () => {
        await assert.rejects(collect(host.compute.logs(room.wish().id, {}, never), 1), { code: 'not_found' })
      })
    })

    describe('commands', () => {
      const textOf = async ({ stream }: ExecSession): Promise<string> => {
        let text = ''
        for await (const chunk of stream) text += String(chunk)
        return text
      }

      test('input, output of both streams, code', async () => {
        const it = await begin()
        const how = { command: ['sh', '-c', 'cat; echo oops >&2; exit 42'], tty: false }
        const session = await host.compute.exec(it.id, how, never)
        session.stream.end('some input\n')
        // Docker carries the two side by side.
        assert.deepEqual((await textOf(session)).split('\n').toSorted(), ['', 'oops', 'some input'])
        assert.equal(await session.exitCode, 42)
        await remove(it)
      })

      test('much output is not lost, however slowly it is read', async () => {
        const it = await begin()
        const how = { command: ['sh', '-c', 'head -c 3000000 /dev/zero'], tty: false }
        const session = await host.compute.exec(it.id, how, never)
        let size = 0
        for await (const chunk of session.stream) size += (chunk as Buffer).length
        assert.equal(size, 3_000_000)
        assert.equal(await session.exitCode, 0)
        await remove(it)
      })

      test('a terminal with a size', async () => {
        const it = await begin()
        const how = { command: ['sh'], tty: true, width: 100, height: 30 }
        const session = await host.compute.exec(it.id, how, never)
        let text = ''
        session.stream.on('data', (chunk: Buffer) => (text += chunk.toString()))
        session.stream.write('stty size\n')
        await until('the first size', () => Promise.resolve(text.includes('30 100')))
        await session.resize(120, 40)
        session.stream.write('stty size\n')
        await until('the second size', () => Promise.resolve(text.includes('40 120')))
        session.stream.write('exit 3\n')
        assert.equal(await session.exitCode, 3)
        await remove(it)
      })

      test('one that is left alone is ended', async () => {
        const it = await begin()
        const stop = new AbortController()
        await host.compute.exec(it.id, { command: ['sleep', '777'], tty: false }, stop.signal)
        const processes = () => ask(host.compute, it.id, 'ps')
        assert.match(await processes(), /sleep 777/)
        stop.abort()
        await until('it ended', async () => !(await processes()).includes('sleep 777'))
        await remove(it)
      })

      test('in a container that has ended: refused', async () => {
        const it = await begin({ healing: false })
        await endBy(host.compute, it.id, 0)
        await inState(it, 'exited')
        const how = { command: ['true'], tty: false }
        await assert.rejects(host.compute.exec(it.id, how, never), {
          code: 'conflict',
          details: { rule: 'wrong_state' },
        })
        await remove(it)
      })
    })

    test('samples follow what it does', async () => {
      const it = await begin({ cpuMillicores: 300, command: ['sh', '-c', 'while true; do :; done'] })
      const mine = async () => (await host.compute.samples(never)).find((sample) => sample.id === it.id)
      await mine()
      await systemClock.sleep(1500, never)
      const sample = await mine()
      assert.ok(sample && sample.cpuMillicores > 30 && sample.cpuMillicores < 400, JSON.stringify(sample))
      assert.ok(sample.memoryBytes > 0)
      await remove(it)
    })

    test('an image that comes slowly says how much of it is there', async () => {
      await using registry = await startSlowRegistry()
      const { image, layerBytes } = registry
      const wish = room.wish({ image, command: ['/noise'] })
      await host.compute.apply(wish, never)
      const progress: { doneBytes: number; totalBytes: number }[] = []
      await until('its image is here', async () => {
        const seen = await host.compute.observe(wish.id, never)
        if (seen?.progress?.totalBytes) progress.push(seen.progress)
        return seen !== undefined && seen.state !== 'pulling' && progress.length > 0
      })
      const sizes = new Set(progress.map((it) => it.doneBytes))
      assert.ok(sizes.size > 2, JSON.stringify([...sizes]))
      assert.deepEqual(
        [...sizes],
        [...sizes].toSorted((a, b) => a - b),
        'it only grows',
      )
      for (const it of progress) assert.equal(it.totalBytes, layerBytes)
      await remove(wish)
      await daemon.client.getImage(image).remove()
    })

    test('a private image is for those who hold its login', async () => {
      const login = { username: 'builder', password: 'correct horse battery' }
      await using registry = await startRegistry({
        directory: `${folder}/registry`,
        listen: '127.0.0.1:0',
        login,
        cache: CACHE_DEFAULT,
      })
      const image = await pushTo(daemon.client, 'idle:latest', registry.address, login)
      // Only the registry has it from now on.
      await daemon.client.getImage('idle:latest').remove()
      const registryLogin = { server: registry.address, ...login }

      const stranger = room.wish({ image })
      await host.compute.apply(stranger, never)
      assert.match((await inState(stranger, 'failed')).message ?? '', /cannot pull/)
      const wrong = room.wish({ image, registry: { ...registryLogin, password: 'guess' } })
      await host.compute.apply(wrong, never)
      const refused = (await inState(wrong, 'failed')).message ?? ''
      assert.match(refused, /cannot pull/)
      assert.doesNotMatch(refused, /guess/)

      const holder = await begin({ image, registry: registryLogin })
      // Here now, and still not for one without the login.
      const next = { ...stranger, attempt: 2 }
      await host.compute.apply(next, never)
      await inState(next, 'failed')

      // The holder's next container needs no registry, and its password is nowhere in the clear.
      await registry.close()
      const again = { ...holder, attempt: 2 }
      await host.compute.apply(again, never)
      await inState(again, 'running')
      for (const wish of [stranger, wrong, holder]) await remove(wish)
    })
  })
}
