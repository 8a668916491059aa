import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import type { ContainerWish } from '#cloud/compute/compute.driver.ts'
import { CAPABILITIES, createOptions } from './container.ts'
import { mountsOf } from './instances.ts'
import { DEFAULT_LIMITS, refusal, refusalOfImage } from './rules.ts'
import { testAttachment, testWish } from './wish.testing.ts'

const FOLDERS = { sockets: '/state/sockets', files: '/state/inside' }

const refused = (change: object): string | undefined =>
  refusal({ ...testWish(), ...change } as unknown, DEFAULT_LIMITS)

describe('the rules of the host agent', () => {
  test('an ordinary wish passes', () => {
    assert.equal(refusal(testWish(), DEFAULT_LIMITS), undefined)
    const health = { intervalSeconds: 1, timeoutSeconds: 1, failuresMax: 3, startSeconds: 0 }
    const { id: volume } = testWish()
    const more: Partial<ContainerWish>[] = [
      { user: '1000:1000' },
      { user: 'www-data' },
      { hostname: `${'a'.repeat(62)}-` },
      { workdir: '/srv/app' },
      { capabilities: ['NET_RAW'] },
      { env: { A: '', 'with.dots': 'é\n' } },
      { health: { ...health, check: { type: 'http', port: 80, path: '/ok?x=1' } } },
      { mounts: [{ volume, path: '/var/lib/postgresql/data', readOnly: true }] },
      { image: 'nginx' },
      { image: 'a.b.c:5000/x/y_z__w-1:v1.0@sha256:'.concat('a'.repeat(64)) },
    ]
    for (const change of more) assert.equal(refused(change), undefined, JSON.stringify(change))
  })

  const bad: Record<string, object> = {
    'a field of Docker': { privileged: true },
    'a namespace of the host': { pidMode: 'host' },
    'an id that is a path': { id: '../../etc' },
    'no tenant': { tenant: undefined },
    'a volume that is a path': { mounts: [{ volume: '/etc', path: '/data', readOnly: true }] },
    'a volume that climbs': { mounts: [{ volume: '../wishes', path: '/data', readOnly: true }] },
    'a source of a mount': {
      mounts: [{ volume: testWish().id, path: '/data', readOnly: true, source: '/' }],
    },
    'a capability beyond the list': { capabilities: ['SYS_ADMIN'] },
    'all capabilities': { capabilities: ['ALL'] },
    'a capability in small letters': { capabilities: ['net_raw'] },
    'the id of an image': { image: 'sha256:'.concat('a'.repeat(64)) },
    'what could be the id of an image': { image: 'deadbeefdead' },
    'an image with a space': { image: 'nginx latest' },
    'an image that climbs': { image: '../nginx' },
    'a variable with an equals sign': { env: { 'A=B': 'c' } },
    'a variable with NUL': { env: { A: 'b\0' } },
    'a variable without a name': { env: { '': 'b' } },
    'an environment that is too large': { env: { A: 'x'.repeat(2 * 1024 * 1024) } },
    'a command with NUL': { command: ['a\0b'] },
    'a user with a space': { user: 'root 0' },
    'a workdir that climbs': { workdir: '/srv/../etc' },
    'a relative workdir': { workdir: 'srv' },
    'too much memory': { memoryMib: DEFAULT_LIMITS.memoryMibMax + 1 },
    'no memory limit': { memoryMib: 0 },
    'no processor limit': { cpuMillicores: 0 },
    'no limit of processes': { pidsMax: 0 },
    'an unlimited number of processes': { pidsMax: -1 },
    'a broken size': { memoryMib: 64.5 },
    'a grace without end': { stopGraceSeconds: 1e9 },
    'a hostname with a dot': { hostname: 'a.b' },
    'a search domain with a line end': { dns: { search: ['a\nnameserver 8.8.8.8'], ndots: 1 } },
    'a resolver that is no address': { dns: { search: [], ndots: 1, nameservers: ['8.8.8.8\n'] } },
    'a name with a space': { names: ['web internal'] },
    'a health path with a line end': {
      health: {
        check: { type: 'http', port: 80, path: '/ HTTP/1.1\r\nHost: x' },
        intervalSeconds: 1,
        timeoutSeconds: 1,
        failuresMax: 1,
        startSeconds: 0,
      },
    },
  }
  for (const [what, change] of Object.entries(bad)) {
    test(`${what} is refused`, () => assert.ok(refused(change)))
  }

  test('no path leads to the kernel, to itself or to the root', () => {
    const { id: volume } = testWish()
    const mounts = (path: string): object => ({ mounts: [{ volume, path, readOnly: false }] })
    for (const path of [
      '/',
      '/proc',
      '/proc/sys',
      '/sys',
      '/dev/shm',
      '/etc/resolv.conf',
      '/data/',
      '//data',
    ]) {
      assert.ok(refused(mounts(path)), path)
    }
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('..', '.', '', 'a', 'proc', 'etc', 'b c', '\u0000', 'x\n')),
        (parts) => {
          const path = `/${parts.join('/')}`
          if (refused(mounts(path)) !== undefined) return
          assert.ok(!parts.some((it) => ['..', '.', ''].includes(it)), path)
          assert.notEqual(parts[0], 'proc')
        },
      ),
    )
  })

  test('its own files stay in its own folder, and lie nowhere that is not for mounts', () => {
    const file = { name: 'variables/a', content: 'YQ==', mode: 0o444, uid: 0, gid: 0 }
    const volume = { volume: testWish().id, readOnly: false }
    const of = (change: object, more: object[] = []) => ({
      inside: { files: [{ ...file, ...change }, ...more] },
    })
    assert.equal(refused(of({ at: '/etc/app/a' })), undefined)
    for (const [bad, why] of [
      [of({ name: 'variables/../../x' }), /no name of a file/],
      [of({ name: 'api/api.sock' }), /no name of a file/],
      [of({ content: 'no base64!' }), /not base64/],
      [of({ at: '/var/run/cycle/api' }), /nothing is mounted at/],
      [of({ at: '/run/cycle/variables/b' }), /nothing is mounted at/],
      [of({ at: '/proc/1' }), /nothing is mounted at/],
      [of({ at: 'etc' }), /no path to mount at/],
      [of({}, [file]), /two things at/],
      [of({ at: '/a' }, [{ ...file, name: 'tls/b', at: '/a' }]), /two things at/],
      [of({ mode: 0o4755 }), /wrong form/],
      [of({ source: '/etc/shadow' }), /wrong form/],
      [{ inside: { files: [], folder: '/etc' } }, /wrong form/],
      [{ ...of({}), mounts: [{ ...volume, path: '/run/cycle' }] }, /the workload's own/],
      [of({ content: 'YQ=='.repeat(2_000_000) }), /larger than/],
    ] as const)
      assert.match(refused(bad) ?? 'it passes', why)
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('variables', 'tls', 'metadata', 'api', '..', '.', '', 'a')),
        (parts) => {
          if (refused(of({ name: parts.join('/') })) !== undefined) return
          assert.equal(parts.length, 2)
          assert.match(parts.join('/'), /^(metadata|tls|variables)\/[a-z]+$/)
        },
      ),
    )
  })

  test('whatever is no wish is refused and nothing throws', () => {
    fc.assert(fc.property(fc.anything(), (value) => assert.ok(refusal(value, DEFAULT_LIMITS))))
    const wish = testWish()
    fc.assert(
      fc.property(fc.constantFrom(...Object.keys(wish)), fc.jsonValue(), (field, value) => {
        const changed = { ...wish, [field]: value } as unknown
        const why = refusal(changed, DEFAULT_LIMITS)
        assert.ok(why === undefined || (typeof why === 'string' && why.length < 400))
      }),
      { numRuns: 500 },
    )
  })

  test('what passes becomes a container that has only what a wish can say', () => {
    const text = fc.string({ maxLength: 20 })
    const changes = fc.record(
      {
        image: fc.constantFrom('nginx', 'host:5000/a/b:1', 'sha256:'.concat('0'.repeat(64))),
        capabilities: fc.array(fc.constantFrom('NET_RAW', 'SYS_ADMIN', 'ALL', 'MKNOD')),
        env: fc.dictionary(text, text, { maxKeys: 3 }),
        command: fc.array(text, { maxLength: 3 }),
        user: text,
        workdir: fc.constantFrom('/srv', '/..', 'x'),
        hostname: fc.constantFrom('a', 'a b', '-a'),
        mounts: fc.array(
          fc.record({
            volume: fc.constantFrom(testWish().id, '/etc', '..'),
            path: fc.constantFrom('/data', '/proc', '/', '/a/../b'),
            readOnly: fc.boolean(),
          }),
          { maxLength: 2 },
        ),
        inside: fc.record({
          files: fc.array(
            fc.record(
              {
                name: fc.oneof(
                  fc.constantFrom('variables/a', 'metadata/environment.json', 'tls/x.pem'),
                  fc.constantFrom('variables/../../b', 'tls/..', '/etc/passwd', 'api/api.sock', 'tls'),
                ),
                content: fc.constantFrom('', 'YQ==', '%'),
                mode: fc.constantFrom(0o400, 0o777, 0o4755),
                uid: fc.constantFrom(0, 1000, -1),
                gid: fc.constant(0),
                at: fc.constantFrom('/etc/app.conf', '/proc/1', '/run/cycle/api', '/a/../b', 'x'),
              },
              { requiredKeys: ['name', 'content', 'mode', 'uid', 'gid'] },
            ),
            { maxLength: 2 },
          ),
        }),
      },
      { requiredKeys: [] },
    )
    fc.assert(
      fc.property(changes, (change) => {
        const { registry: _, inside, ...plain } = testWish(change)
        if (refusal({ ...plain, ...(inside && { inside }) }, DEFAULT_LIMITS) !== undefined) return
        const wish = { ...plain, ...(inside && { inside: { ...inside, sealed: '' } }) }
        const { HostConfig: host } = createOptions({
          instance: 'arcus',
          owner: 'somebody',
          wish,
          attached: testAttachment,
          joining: { endpoint: {}, resolver: 'vpc', ipv6: true },
          resolvConfPath: '/state/resolv/x',
          volumePath: (volume) => `/state/volumes/${volume}`,
          instances: { mounts: (id, files) => mountsOf(FOLDERS, id, files) },
          init: true,
        })
        assert.ok(host)
        assert.deepEqual(host.CapDrop, ['ALL'])
        for (const capability of host.CapAdd as string[]) {
          assert.ok([...CAPABILITIES, ...DEFAULT_LIMITS.capabilities].includes(capability))
        }
        assert.equal(host.Privileged, false)
        assert.deepEqual(host.SecurityOpt, ['no-new-privileges'])
        for (const mount of host.Mounts ?? []) {
          const own = `(inside/${wish.id}(/(metadata|tls|variables)/[\\w.]+)?|sockets/${wish.id})`
          assert.match(mount.Source, new RegExp(`^/state/(resolv/x|volumes/[0-9a-f-]{36}|${own})$`))
          assert.ok(mount.ReadOnly === true || mount.Source.startsWith('/state/volumes/'))
        }
        for (const key of [
          'PidMode',
          'IpcMode',
          'UTSMode',
          'UsernsMode',
          'Devices',
          'Binds',
          'PortBindings',
        ]) {
          assert.ok(!(key in host), key)
        }
        assert.equal(host.Memory, wish.memoryMib * 1024 * 1024)
        assert.equal(host.MemorySwap, host.Memory)
        assert.ok((host.PidsLimit ?? 0) > 0)
      }),
      { numRuns: 500 },
    )
  })

  test('names of images', () => {
    for (const name of ['redis:7', 'library/redis', 'localhost:5000/x', 'ghcr.io/a/b/c:latest', 'probe']) {
      assert.equal(refusalOfImage(name), undefined, name)
    }
    for (const name of [
      '',
      ':1',
      'a//b',
      '/a',
      'a/',
      'a:b:c',
      'a@sha256:12',
      'a b',
      'a\n',
      'http://a/b',
      '-a',
    ]) {
      assert.ok(refusalOfImage(name), name)
    }
  })
})
