import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { type AddressInfo, connect as connectTcp, createServer as createTcp, type Socket } from 'node:net'
import { join } from 'node:path'
import { Duplex, PassThrough } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { parse } from 'yaml'
import { systemClock } from '#lib/clock.ts'
import { servedCloud, type ServedCloud } from '#apis/native/native.testing.ts'
import { ensureCertificate } from '#apis/tls.ts'
import { shell, type Shell } from './cli.testing.ts'

const SHOP = `
resources:
  - { kind: vpc, name: production, spec: { internet: true } }
  - { kind: subnet, name: front, spec: { vpc: production, cidr: 10.0.1.0/24 } }
  - kind: workload
    name: web
    labels: { tier: front }
    spec: { vpc: production, subnet: front, image: 'nginx:latest', replicas: 2 }
`

/** The first sample is taken a moment after the container runs. */
const STATS_TRIES_MAX = 100
const INTERRUPTED_MS_MAX = 5000

type Place = AsyncDisposable & {
  served: ServedCloud
  user: Shell
  token: string
  fine: (...args: string[]) => Promise<string>
}

/** A tenant's user in front of a cloud in which everything becomes true. */
async function place(): Promise<Place> {
  const served = await servedCloud()
  const { token } = await served.it.tenant('acme')
  const user = await shell({ ARCUS_URL: served.url, ARCUS_TOKEN: token })
  served.keepSettling()
  return {
    served,
    user,
    token,
    async fine(...args) {
      const { code, out, err } = await user.run(args)
      assert.equal(code, 0, `arcus ${args.join(' ')}: ${out}${err}`)
      return out
    },
    async [Symbol.asyncDispose]() {
      await user[Symbol.asyncDispose]()
      await served[Symbol.asyncDispose]()
    },
  }
}

test('apply makes a topology, waits for it, and applied again changes nothing', async () => {
  await using it = await place()
  const dry = await it.user.run(['apply', '-f', '-', '--dry-run'], { input: SHOP })
  assert.deepEqual([dry.code, dry.out.match(/created \(dry run\)/g)?.length], [0, 3])
  assert.match(await it.fine('get', 'vpc', '-o', 'json'), /"items": \[\]/)
  const first = await it.user.run(['apply', '-f', '-', '--wait', '20'], { input: SHOP })
  assert.equal(first.code, 0, first.err)
  assert.equal(first.out, 'vpc/production created\nsubnet/front created\nworkload/web created\n')
  assert.match(first.err, /workload\/web: settled, running \(2\/2 ready\)/)
  const again = await it.user.run(['apply', '-f', '-', '--wait'], { input: SHOP })
  assert.equal(again.out, 'vpc/production unchanged\nsubnet/front unchanged\nworkload/web unchanged\n')
  const file = join(it.user.home, 'one.json')
  await writeFile(
    file,
    JSON.stringify([{ kind: 'workload', name: 'web', spec: { vpc: 'production', replicas: 1 } }]),
  )
  const changed = JSON.parse(await it.fine('apply', '-f', file, '-o', 'json', '--wait=20'))
  assert.deepEqual([changed.items[0].action, changed.items[0].resource.spec.replicas], ['changed', 1])
})

test('what get prints as YAML can be applied', async () => {
  await using it = await place()
  await it.user.run(['apply', '-f', '-', '--wait'], { input: SHOP })
  const text = await it.fine('get', 'security-groups', '-o', 'yaml')
  assert.deepEqual(parse(text), { items: [], total: 0 })
  const vpcs = await it.fine('get', 'vpcs', '-o', 'yaml')
  assert.equal((await it.user.run(['apply', '-f', '-'], { input: vpcs })).out, 'vpc/production unchanged\n')
})

test('get, describe, explain and stats show what there is', async () => {
  await using it = await place()
  await it.user.run(['apply', '-f', '-', '--wait'], { input: SHOP })
  const table = await it.fine('get', 'workloads')
  assert.match(
    table,
    /^NAME +STATE +READY +VPC +ADDRESS +EXTERNAL +PORTS +IMAGE +AGE +ID\nweb +running +2\/2 +production +10\.0\.1\.\d+ +- +- +nginx:latest/,
  )
  assert.equal(await it.fine('get', 'pods', '-o', 'name'), 'workload/web\n')
  assert.equal(JSON.parse(await it.fine('get', 'workload/web', '-o', 'json')).name, 'web')
  assert.equal(parse(await it.fine('get', 'workload', 'production/web', '-o', 'yaml')).name, 'web')
  assert.equal(JSON.parse(await it.fine('get', 'replica', 'web-0', 'web-1', '-o', 'json')).items.length, 2)
  assert.match(await it.fine('get', 'replicas', '--limit', '1'), /^NAME.*\nweb-0 [^\n]*\n$/)
  assert.equal(await it.fine('get', 'workload', '-l', 'tier=back'), '')
  assert.match(await it.fine('get', 'subnet', '-l', 'a=b', '-o', 'json'), /"total": 0/)
  const described = await it.fine('describe', 'workload', 'web')
  for (const line of [
    /^Name: +web$/m,
    /^Label: +tier=front$/m,
    /^ {2}image: nginx:latest$/m,
    /^web-1 .*running/m,
  ])
    assert.match(described, line)
  assert.equal(await it.fine('explain', 'workload/web'), 'workload/web is settled\n')
  let stats = ''
  for (let tries = 0; tries < STATS_TRIES_MAX && !stats.includes('1m'); tries++)
    stats = await it.fine('stats', 'web')
  assert.match(stats, /^REPLICA +CPU.*\nweb-0 +1m +8 MiB/)
  assert.match(
    await it.fine('usage', '--from', '2026-01-01T00:00:00Z'),
    /^WHAT +HOURS\n(replica 1000m 512 MiB +0\.\d{3}\n)?external address +0\.000\n$/,
  )
  const past = ['--from', '2020-01-01T00:00:00Z', '--to', '2020-02-01T00:00:00Z', '-o', 'json']
  assert.deepEqual(JSON.parse(await it.fine('usage', ...past)).replicas, [])
  assert.match(await it.fine('kinds'), /^workload +tenant +vpc subnet image/m)
  assert.match(await it.fine('whoami'), /acme/)
})

test('logs and exec pick a replica of a workload', async () => {
  await using it = await place()
  await it.user.run(['apply', '-f', '-', '--wait'], { input: SHOP })
  assert.equal(await it.fine('logs', 'web'), 'simulated nginx:latest\n')
  assert.match(await it.fine('logs', 'replica/web-1', '-t'), /^\d{4}-.*Z simulated/)
  const ran = await it.user.spawn(['exec', 'web', '--replica', '1', '--', 'echo', '-n', 'a b'])
  assert.deepEqual(ran, { code: 0, out: 'simulated echo -n a b\n', err: '' })
  const none = await it.user.run(['exec', 'web', '--replica', '9', '--', 'ls'])
  assert.deepEqual([none.code, none.out], [1, ''])
  assert.match(none.err, /no replica 9\n {2}it has 0, 1/)
})

test('a log is followed on when the cloud comes back', async () => {
  await using it = await place()
  await it.user.run(['apply', '-f', '-', '--wait'], { input: SHOP })
  const stop = new AbortController()
  let asked = 0
  it.served.it.compute.logs = async function* (_id, _how, signal) {
    const line = String(++asked)
    // After the second line nothing is left to see.
    if (asked === 3) return stop.abort()
    yield { cursor: line, at: 0, stream: 'stdout', line }
    await once(signal, 'abort')
  }
  /** So many connections to the cloud end at once, each time that a line came. */
  let away = 0
  const sockets = new Set<Socket>()
  const way = createTcp((socket) => {
    if (away > 0 && away--) return void socket.destroy()
    sockets.add(socket)
    const { hostname, port } = new URL(it.served.url)
    const on = connectTcp(Number(port), hostname)
    on.on('data', (chunk: Buffer) => {
      socket.write(chunk)
      if (!chunk.includes(`"line":"${asked}"`)) return
      away = asked
      on.destroy()
      socket.end()
    })
    socket.on('data', (chunk: Buffer) => on.write(chunk))
    for (const one of [socket, on]) one.on('error', () => {}).once('close', () => socket.destroy())
  })
  way.listen(0, '127.0.0.1')
  await once(way, 'listening')
  const { port } = way.address() as AddressInfo
  const ran = await it.user.run(['logs', 'web', '--follow'], {
    env: { ARCUS_URL: `http://127.0.0.1:${port}` },
    signal: AbortSignal.any([stop.signal, AbortSignal.timeout(10_000)]),
    clock: { ...systemClock, sleep: async () => await pause(1) },
  })
  way.close()
  for (const socket of sockets) socket.destroy()
  assert.deepEqual(ran, { code: 0, out: '1\n2\n', err: '' })
})

test('exec passes standard input on, and ends with the exit code of the command', async () => {
  await using it = await place()
  await it.user.run(['apply', '-f', '-', '--wait'], { input: SHOP })
  it.served.it.compute.exec = async (_id, { command }) => {
    const stream = new PassThrough()
    if (command[0] !== 'cat') stream.end()
    const exitCode = new Promise<number>((resolve) =>
      stream.once('close', () => resolve(Number(command[1] ?? 0))),
    )
    return await Promise.resolve({ stream, exitCode, resize: async () => await Promise.resolve() })
  }
  const input = 'line\n'.repeat(500_000)
  const copied = await it.user.spawn(['exec', '-i', 'web', '--', 'cat', '7'], { input })
  assert.deepEqual([copied.code, copied.out === input, copied.err], [7, true, ''])
  assert.equal((await it.user.spawn(['exec', 'web', '--', 'false', '1'])).code, 1)
  const noTerminal = await it.user.spawn(['exec', '-it', 'web', '--', 'cat'])
  assert.deepEqual([noTerminal.code, /-t needs a terminal/.test(noTerminal.err)], [2, true])
})

test('an interrupt ends exec, also of a command with a terminal that is not this one', async () => {
  await using it = await place()
  await it.user.run(['apply', '-f', '-', '--wait'], { input: SHOP })
  for (const more of [[], ['-t']]) {
    const interrupt = new AbortController()
    const stream = new PassThrough()
    it.served.it.compute.exec = async () => {
      setImmediate(() => interrupt.abort(new Error('interrupted')))
      const exitCode = once(stream, 'end').then(() => 9)
      return await Promise.resolve({ stream, exitCode, resize: async () => await Promise.resolve() })
    }
    const running = it.user.run(['exec', ...more, 'web', '--', 'top'], { signal: interrupt.signal })
    const ran = await Promise.race([running, pause(INTERRUPTED_MS_MAX)])
    stream.end()
    await running
    assert.equal(ran?.code, 1, `exec ${more.join('')}`)
  }
})

test('an interrupt ends a request that is not answered', async () => {
  const interrupt = new AbortController()
  const silent = createServer(() => interrupt.abort(new Error('interrupted'))).listen(0, '127.0.0.1')
  await once(silent, 'listening')
  await using user = await shell({ ARCUS_URL: `http://127.0.0.1:${(silent.address() as AddressInfo).port}` })
  const running = user.run(['get', 'vpc'], { signal: interrupt.signal })
  const ran = await Promise.race([running, pause(INTERRUPTED_MS_MAX)])
  silent.close()
  silent.closeAllConnections()
  await running
  assert.deepEqual(ran, { code: 1, out: '', err: '' })
})

test('exec -it gives the command this terminal: its size, its keys, its exit code', async () => {
  await using it = await place()
  await it.user.run(['apply', '-f', '-', '--wait'], { input: SHOP })
  const asked: unknown[] = []
  let typed = ''
  it.served.it.compute.exec = async (_id, how) => {
    asked.push(how)
    const input = new PassThrough()
    const output = new PassThrough()
    output.write('ready> ')
    input.on('data', (text: Buffer) => {
      typed += text.toString()
      if (typed.endsWith('q')) output.end()
    })
    const stream = Duplex.from({ readable: output, writable: input } as never)
    const exitCode = new Promise<number>((resolve) => output.once('end', () => resolve(3)))
    return await Promise.resolve({ stream, exitCode, resize: async () => await Promise.resolve() })
  }
  const command = `stty rows 33 cols 99; ${process.execPath} ${join(import.meta.dirname, 'cli.ts')} exec -it web -- sh`
  const env = {
    PATH: process.env['PATH'],
    HOME: it.user.home,
    ARCUS_URL: it.served.url,
    ARCUS_TOKEN: it.token,
  }
  const terminal = spawn('script', ['-qefc', command, '/dev/null'], { env, timeout: 30_000 })
  terminal.stdout.once('data', () => terminal.stdin.write('ab\u0003\rq'))
  const [code] = (await once(terminal, 'close')) as [number]
  assert.deepEqual([code, typed], [3, 'ab\u0003\rq'])
  assert.deepEqual(asked, [{ command: ['sh'], tty: true, width: 99, height: 33 }])
})

test('delete waits until it is gone; what is in the way is named', async () => {
  await using it = await place()
  await it.user.run(['apply', '-f', '-', '--wait'], { input: SHOP })
  const blocked = await it.user.run(['delete', 'subnet', 'front'])
  assert.equal(blocked.code, 1)
  assert.match(blocked.err, /^error: .*in use.*\n {2}in the way: workload web \(/)
  const dry = await it.user.run(['delete', 'workload', 'web', '--dry-run'])
  assert.deepEqual([dry.code, dry.out], [0, 'workload/web would be deleted\n'])
  const gone = await it.user.run(['delete', '-f', '-', '--wait', '20'], { input: SHOP })
  assert.equal(gone.code, 0, gone.err)
  assert.equal(
    gone.out,
    'workload/web is being deleted\nsubnet/front is being deleted\nvpc/production is being deleted\n',
  )
  for (const kind of ['vpc', 'subnet', 'workload', 'replica'])
    assert.equal(JSON.parse(await it.fine('get', kind, '-o', 'json')).total, 0)
  const again = await it.user.run(['delete', '-f', '-', '--wait'], { input: SHOP })
  assert.deepEqual([again.code, again.out], [0, ''])
  assert.equal((await it.user.run(['delete', 'vpc', 'production'])).code, 1)
  assert.equal((await it.user.run(['delete', 'vpc', 'production', '--ignore-missing'])).code, 0)
})

test('restart gives every replica a new container', async () => {
  await using it = await place()
  await it.user.run(['apply', '-f', '-', '--wait'], { input: SHOP })
  const before = JSON.parse(await it.fine('get', 'replica', 'web-0', '-o', 'json'))
  const ran = await it.user.run(['restart', 'web', '--wait', '20'])
  assert.deepEqual([ran.code, ran.out], [0, 'workload/web is being restarted\n'], ran.err)
  const after = JSON.parse(await it.fine('get', 'replica', 'web-0', '-o', 'json'))
  assert.equal(after.id, before.id)
  assert.notEqual(after.status.runtimeId, before.status.runtimeId)
  assert.equal((await it.user.run(['restart', 'nowhere'])).code, 1)
})

test('stop takes a replica away until start brings it back in a new container', async () => {
  await using it = await place()
  await it.user.run(['apply', '-f', '-', '--wait'], { input: SHOP })
  const stopped = await it.user.run(['stop', 'web-0', '--wait', '30'])
  assert.deepEqual([stopped.code, stopped.out], [0, 'replica/web-0 is being stopped\n'], stopped.err)
  assert.match(await it.fine('get', 'replica', 'web-0'), /stopped/)
  const started = await it.user.run(['start', 'web-0', '--wait', '30'])
  assert.deepEqual([started.code, started.out], [0, 'replica/web-0 is being started\n'], started.err)
  assert.match(await it.fine('get', 'replica', 'web-0'), /running/)
  assert.equal((await it.user.run(['stop', 'nowhere-0'])).code, 1)
})

test('an administrator of several tenants sees whose things are', async () => {
  await using served = await servedCloud()
  await using user = await shell({ ARCUS_URL: served.url, ARCUS_TOKEN: served.it.credentials.token })
  for (const name of ['acme', 'other']) {
    await served.it.tenant(name)
    const made = await user.run(['apply', '-f', '-', '--tenant', name], { input: SHOP })
    assert.equal(made.code, 0, made.err)
  }
  const all = await user.run(['get', 'vpc'])
  assert.match(all.out, /^NAME +TENANT .*\nproduction +acme .*\nproduction +other /)
  assert.doesNotMatch((await user.run(['get', 'vpc', '--tenant', 'acme'])).out, /TENANT/)
})

test('what fails for good ends the wait with 4 and the reason', async () => {
  await using it = await place()
  const input = SHOP.replace('nginx:latest', 'missing:latest')
  const failed = await it.user.run(['apply', '-f', '-', '--wait', '20'], { input })
  assert.equal(failed.code, 4, failed.err)
  assert.match(
    failed.err,
    /^error: workload\/web failed: error \(0\/2 ready\): no such image: missing:latest$/m,
  )
  assert.match(await it.fine('explain', 'workload', 'web'), /is settled, but failed: .*missing:latest/)
})

test('what is not settled in time ends with 4 and the reason', async () => {
  await using served = await servedCloud()
  const { token } = await served.it.tenant('acme')
  await using user = await shell({ ARCUS_URL: served.url, ARCUS_TOKEN: token })
  // Nothing is reconciled here.
  const late = await user.run(['apply', '-f', '-', '--wait', '1'], { input: SHOP })
  assert.equal(late.code, 4, late.err)
  assert.match(
    late.err,
    /^workload\/web is not settled after 1 s: it was not looked at yet; waiting for replica\/web-0; waiting for replica\/web-1$/m,
  )
  assert.match(late.err, /arcus explain vpc production/)
})

test('watch prints changes until it is interrupted', async () => {
  await using it = await place()
  // The watch begins when its process is up, so the change is made again until it is seen.
  const changing = new AbortController()
  const change = async (): Promise<void> => {
    await it.fine('apply', '-f', join(it.user.home, 'vpc.yaml'))
    for (let size = 0; !changing.signal.aborted; size++) {
      await it.served.call('PATCH', '/vpc/production', {
        token: it.token,
        body: { labels: { size: String(size) } },
      })
      await pause(20)
    }
  }
  await writeFile(join(it.user.home, 'vpc.yaml'), '[{ kind: vpc, name: production }]')
  const changes = change()
  const { code, out, err } = await it.user.spawn(['watch', 'vpc'], {
    during: (text, interrupt) => void (text.includes('changed ') && interrupt()),
  })
  changing.abort()
  await changes
  assert.match(out, /^changed +vpc\/production +/m, err)
  assert.equal(code, 0, err)
})

test('every wrong use has its exit code and says what is wrong', async () => {
  await using it = await place()
  const cases: [string[], number, RegExp][] = [
    [['frobnicate'], 2, /unknown command 'frobnicate'/],
    [['get'], 2, /missing required argument 'kind'/],
    [['get', 'unicorns'], 2, /no kind unicorns\n {2}the kinds are .*vpc/],
    [['get', 'vpc', 'nowhere'], 1, /no vpc nowhere/],
    [['get', 'vpc', 'a', '-l', 'x=y'], 2, /names or filters/],
    [['get', 'vpc', '-l', 'plain'], 1, /label/],
    [['get', 'vpc', '-o', 'xml'], 2, /Allowed choices are table, json, yaml, name/],
    [['get', 'vpc', '--limit', '0'], 2, /whole number/],
    [['describe', 'vpc'], 2, /name the resource/],
    [['describe', 'vpc', 'nowhere'], 1, /no vpc nowhere/],
    [['apply'], 2, /required option '-f, --file <file>'/],
    [['apply', '-f', '/nowhere.yaml'], 2, /cannot read \/nowhere.yaml/],
    [['apply', '-f', '-'], 2, /names no resource/],
    [['apply', '-f', '-', '--wait', 'soon'], 2, /whole number of seconds/],
    [['delete'], 2, /KIND NAME/],
    [['delete', 'vpc'], 2, /name the vpc/],
    [['delete', 'vpc', 'nowhere'], 1, /no vpc nowhere/],
    [['watch', 'unicorn'], 2, /no kind unicorn/],
    [['explain', 'workload'], 2, /name the resource/],
    [['logs', 'nowhere'], 1, /no workload nowhere/],
    [['logs', 'web', '--tail', 'x'], 2, /whole number/],
    [['exec', 'web'], 2, /missing required argument 'command'/],
    [['exec', 'nowhere', '--', 'ls'], 1, /no workload nowhere/],
    [['stats', 'nowhere'], 1, /no workload nowhere/],
    [['leaks'], 1, /administrator/],
    [['tenants', 'create', 'mine'], 1, /administrator/],
    [['tenants'], 2, /Usage: arcus tenants/],
    [['completion', 'tcsh'], 2, /bash, zsh, fish/],
    [['login'], 2, /no terminal/],
    [['login', '-u', 'admin', '--password-stdin'], 2, /standard input is empty/],
    [['whoami', '--token', 'wrong'], 1, /token is unknown.*\n {2}log in with: arcus login/],
    [['whoami', '--url', 'ftp://x'], 2, /http/],
    [
      ['whoami', '--url', 'http://127.0.0.1:9'],
      3,
      /cannot reach http:\/\/127\.0\.0\.1:9 .*\n {2}start it with \.\/arcus up/,
    ],
    [['whoami', '--ca', '/nowhere.pem'], 2, /certificate authority/],
    [['get', 'vpc', '--tenant', 'stranger'], 1, /tenant/i],
  ]
  for (const [args, code, says] of cases) {
    const ran = await it.user.run(args)
    assert.equal(ran.code, code, `arcus ${args.join(' ')}: ${ran.out}${ran.err}`)
    assert.match(ran.err, says)
    assert.equal(ran.out, '', args.join(' '))
    assert.doesNotMatch(ran.err, / at .*\.ts:/)
  }
  const documents: [string, RegExp][] = [
    ['{', /not YAML or JSON/],
    ['resources: 3', /resources must be a list/],
    ['- { name: x }', /resource 1 of standard input has no kind/],
    ['- { kind: vpc }', /\(vpc\) has no name/],
  ]
  for (const [input, says] of documents) {
    const ran = await it.user.run(['apply', '-f', '-'], { input })
    assert.deepEqual([ran.code, says.test(ran.err)], [2, true], ran.err)
  }
  const unknown = await it.user.run(['apply', '-f', '-'], {
    input: '[{ kind: workload, name: x, spec: { vpc: nowhere } }]',
  })
  assert.deepEqual([unknown.code, /workload x: .*no vpc nowhere/.test(unknown.err)], [1, true], unknown.err)
})

test('login keeps a token that opens the cloud, for its owner’s eyes only', async () => {
  await using served = await servedCloud()
  await using user = await shell()
  const { username, password } = served.it.credentials
  const wrong = await user.run(['login', '--url', served.url, '-u', username, '--password-stdin'], {
    input: 'wrong\n',
  })
  assert.deepEqual([wrong.code, /Wrong user name or password/.test(wrong.err)], [1, true])
  const right = await user.run(['login', '--url', served.url, '-u', username, '--password-stdin'], {
    input: `${password}\n`,
  })
  assert.equal(right.code, 0, right.err)
  const file = join(user.home, '.config', 'arcus', 'config.json')
  assert.equal((await stat(file)).mode & 0o777, 0o600)
  assert.doesNotMatch(await readFile(file, 'utf8'), new RegExp(password))
  assert.match((await user.run(['whoami'])).out, /Administrator: +admin/)

  const made = await user.run(['tenants', 'create', 'acme'])
  assert.equal(made.code, 0, made.err)
  const token = made.out.trim()
  assert.match((await user.run(['whoami', '--token', token])).out, /Tenant: +acme/)
  assert.match((await user.run(['tenants', 'list'])).out, /^acme +\w+ +-/m)
  const nowhere = await user.run(['apply', '-f', '-'], { input: SHOP })
  assert.deepEqual([nowhere.code, /--tenant NAME/.test(nowhere.err)], [1, true], nowhere.err)
  assert.equal((await user.run(['tenants', 'use', 'acme'])).code, 0)
  assert.equal((await user.run(['apply', '-f', '-'], { input: SHOP })).code, 0)
  assert.equal((await user.run(['tenants', 'suspend', 'acme'])).out, 'tenant/acme suspended\n')
  assert.match((await user.run(['tenants', 'list'])).out, /^acme +suspended /m)
  const late = await user.run(['apply', '-f', '-', '--token', token], {
    input: 'resources: [{kind: vpc, name: late}]',
  })
  assert.deepEqual([late.code, /This tenant is suspended/.test(late.err)], [1, true], late.err)
  assert.equal((await user.run(['tenants', 'resume', 'acme', '-o', 'name'])).out, 'tenant/acme\n')
  const kept = await user.run(['login', '--token-stdin'], { input: `${token}\n` })
  assert.equal(kept.code, 0, kept.err)
  assert.match((await user.run(['whoami'])).out, /Subject: +acme/)
})

test('the administrator’s file of this machine is used, and for this machine alone', async () => {
  await using served = await servedCloud()
  await using user = await shell({ ARCUS_URL: served.url })
  const anyone = await user.run(['whoami'])
  assert.deepEqual(
    [anyone.code, anyone.err],
    [1, 'error: you are not logged in\n  log in with: arcus login\n'],
  )
  await writeFile(join(user.home, 'admin.json'), JSON.stringify(served.it.credentials))
  assert.match((await user.run(['whoami'])).out, /Administrator: +admin/)
  // Elsewhere it is not sent: a server that writes down what it gets.
  const seen: (string | undefined)[] = []
  const other = createServer((request, response) => {
    seen.push(request.headers.authorization)
    response.writeHead(200).end('{"hello"')
  })
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
  const { port } = other.address() as AddressInfo
  await user.run(['login', '--token-stdin'], { input: `${served.it.credentials.token}\n` })
  const strange = await user.run(['whoami', '--url', `http://0.0.0.0:${port}`])
  assert.deepEqual([strange.code, seen], [1, [undefined]])
  assert.match(strange.err, /not JSON/)
  other.close()
})

test('a cloud with a certificate of its own is trusted by its authority’s file, and only then', async () => {
  await using user = await shell()
  const certificate = async () =>
    await ensureCertificate({ folder: user.home, names: [], clock: systemClock })
  await using served = await servedCloud({ certificate })
  const { token } = await served.it.tenant('acme')
  const env = { ARCUS_URL: served.url, ARCUS_TOKEN: token }
  assert.match(served.url, /^https:/)
  const doubted = await user.spawn(['whoami'], { env })
  assert.deepEqual(
    [doubted.code, /cannot trust .*\n {2}.*--ca FILE/.test(doubted.err)],
    [3, true],
    doubted.err,
  )
  const { authorityFile } = await certificate()
  await user.spawn(['apply', '-f', '-'], { env: { ...env, ARCUS_CA: authorityFile }, input: SHOP })
  await served.it.settle()
  assert.match((await user.spawn(['whoami', '--ca', authorityFile], { env })).out, /acme/)
  const ran = await user.spawn(['exec', '--ca', authorityFile, 'web', '--', 'ls'], { env })
  assert.deepEqual([ran.code, ran.out], [0, 'simulated ls\n'], ran.err)
})

test('leaks is empty when the host is as the records say, and says what differs when not', async () => {
  await using served = await servedCloud()
  await using user = await shell({ ARCUS_URL: served.url, ARCUS_TOKEN: served.it.credentials.token })
  const { token } = await served.it.tenant('acme')
  await user.run(['apply', '-f', '-'], { input: SHOP, env: { ARCUS_TOKEN: token } })
  await served.it.settle()
  const none = await user.run(['leaks'])
  assert.deepEqual([none.code, none.out, none.err], [0, '', 'no leaks: the host is as the records say\n'])
  const { body } = await served.call('GET', '/replica/web-0', { token })
  served.it.compute.vanish(body.id)
  const one = await user.run(['leaks'])
  assert.deepEqual(
    [one.code, /^missing +container +replica web-0 of acme .*arcus explain replica/m.test(one.out)],
    [1, true],
    one.out,
  )
})

test('leaks --mend puts right what can be, and history tells what happened', async () => {
  await using served = await servedCloud()
  await using user = await shell({ ARCUS_URL: served.url, ARCUS_TOKEN: served.it.credentials.token })
  const { token } = await served.it.tenant('acme')
  await user.run(['apply', '-f', '-'], { input: SHOP, env: { ARCUS_TOKEN: token } })
  await served.it.settle()
  const { body } = await served.call('GET', '/vpc/production', { token })
  served.it.network.meddle(body.id, {
    what: 'missing',
    thing: 'route',
    detail: 'route to 10.0.0.5/32 missing',
  })
  const found = await user.run(['leaks', '--mend', '-o', 'json'])
  const { items } = JSON.parse(found.out) as { items: Record<string, string>[] }
  assert.equal(found.code, 1)
  assert.deepEqual(
    items.map((it) => [it['thing'], it['culprit'], it['id']]),
    [['route', 'vpc production of acme', body.id]],
  )
  await served.it.settle()
  assert.equal((await user.run(['leaks', '--mend'])).code, 0)
  const told = await user.run(['history', 'vpc', 'production'], { env: { ARCUS_TOKEN: token } })
  assert.match(
    told.out,
    /^AGE +WHAT +DETAIL\n\S+ +vpc\.repaired +route to 10.0.0.5\/32 missing\n\S+ +vpc\.drifted/,
  )
  assert.equal((await user.run(['history', 'vpc'])).code, 2)
})

test('completions are scripts that their shells can read', async () => {
  await using user = await shell()
  for (const name of ['bash', 'zsh', 'fish']) {
    const { code, out } = await user.run(['completion', name])
    assert.equal(code, 0)
    assert.match(out, /describe/)
  }
  const { out } = await user.run(['completion', 'bash'])
  const file = join(user.home, 'completion.bash')
  await writeFile(file, out)
  const script = `source ${file}; COMP_WORDS=(arcus de); COMP_CWORD=1; _arcus; echo "\${COMPREPLY[@]}"`
  const seen = spawnSync('bash', ['-c', script], { encoding: 'utf8' })
  assert.deepEqual([seen.status, seen.stdout], [0, 'describe delete\n'], seen.stderr)
})

test('the entry ends with the command’s exit code', async () => {
  await using user = await shell()
  const help = await user.spawn(['--help'])
  assert.deepEqual([help.code, /Exit codes/.test(help.out)], [0, true])
  assert.equal((await user.spawn(['frobnicate'])).code, 2)
  const away = await user.spawn(['get', 'vpc'], { env: { ARCUS_URL: 'http://127.0.0.1:9' } })
  assert.deepEqual([away.code, away.out], [3, ''])
})

test('what cannot be written is said, and fails the command', () => {
  const full = openSync('/dev/full', 'w')
  const args = [join(import.meta.dirname, 'cli.ts'), 'completion', 'bash']
  const ran = spawnSync(process.execPath, args, { stdio: ['ignore', full, 'pipe'], encoding: 'utf8' })
  closeSync(full)
  assert.deepEqual(
    [ran.status, /^error: the output cannot be written: ENOSPC[^\n]*\n$/.test(ran.stderr)],
    [1, true],
  )
})
