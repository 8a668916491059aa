import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { folderLayout, machineLayout } from './layout.ts'
import { parseFront, parseListen } from './options.ts'
import { versionOf } from './parent.ts'
import { CLOUD_HEAP, type Cloudware, commandsOf, MALLOC, programsOf, settingsOf, urlOf } from './programs.ts'
import { applyUnits, renderUnits, UNIT_NAMES } from './units.ts'

const cloudware = (change: Partial<Cloudware> = {}): Cloudware => ({
  layout: machineLayout('/var/lib/arcus'),
  program: '/usr/local/lib/arcus/abc',
  users: { cloud: { name: 'arcus', uid: 901, gid: 902 }, edge: { name: 'arcus-edge', uid: 903, gid: 904 } },
  listen: [parseListen('127.0.0.1:8080')],
  front: parseFront('0.0.0.0:80', '[::1]:8443'),
  compute: 'docker',
  network: 'linux',
  more: [],
  settings: {},
  ...change,
})

const after = (argv: readonly string[], word: string): string | undefined => argv[argv.indexOf(word) + 1]

describe('the three processes', () => {
  test('have the sockets between them in common', () => {
    const { agent, edge, cloud } = commandsOf(cloudware())
    assert.equal(after(agent, '--socket'), after(cloud, '--agent'))
    assert.equal(after(edge, '--socket'), after(cloud, '--edge'))
    assert.equal(after(agent, '--owner'), '901:902')
    assert.equal(after(edge, '--owner'), '901:902')
  })
  test('the edge answers on the first address of the fabric', () => {
    assert.equal(after(commandsOf(cloudware()).edge, '--dns'), '100.112.0.1:53')
    const more = ['--fabric', '10.240.0.0/16']
    const { edge, cloud } = commandsOf(cloudware({ more }))
    assert.equal(after(edge, '--dns'), '10.240.0.1:53')
    assert.equal(after(cloud, '--fabric'), '10.240.0.0/16')
  })
  test('the agent knows by itself which ports may be published', () => {
    const more = ['--published-ports', '20000-20010']
    const { agent, cloud } = commandsOf(cloudware({ more }))
    assert.equal(after(agent, '--published-ports'), '20000-20010')
    assert.equal(after(cloud, '--published-ports'), '20000-20010')
    assert.equal(commandsOf(cloudware()).agent.includes('--published-ports'), false)
  })
  test('the edge serves hostnames where it was told', () => {
    const { edge } = commandsOf(cloudware())
    assert.deepEqual([after(edge, '--http'), after(edge, '--https')], ['0.0.0.0:80', '[::1]:8443'])
    assert.throws(() => parseFront('localhost:80', '0.0.0.0:443'), /--http takes ADDRESS:PORT/)
    assert.throws(() => parseFront('0.0.0.0:80', '0.0.0.0:65536'), /--https takes ADDRESS:PORT/)
  })
  test('only the agent is root, and the others have no capability but the edge one', () => {
    const { agent, edge, cloud } = programsOf(cloudware())
    assert.equal(agent.argv.includes('setpriv'), false)
    assert.ok(
      edge.argv.includes('--reuid=903') && edge.argv.includes('--bounding-set=-all,+net_bind_service'),
    )
    assert.ok(cloud.argv.includes('--reuid=901') && cloud.argv.includes('--bounding-set=-all'))
    const low = programsOf(cloudware({ listen: [parseListen('0.0.0.0:443')] }))
    assert.ok(low.cloud.argv.includes('--bounding-set=-all,+net_bind_service'))
  })
  test('get our settings from the environment and nothing else of it', () => {
    const settings = settingsOf({ ARCUS_LOG: 'debug', ARCUS_TOKEN: 'x', PATH: '/evil' })
    const { env } = programsOf(cloudware({ settings })).cloud
    assert.equal(env['ARCUS_LOG'], 'debug')
    assert.equal(env['ARCUS_TOKEN'], undefined)
    assert.ok(env['PATH']?.startsWith('/usr/local/sbin:'))
  })
})

test('a cloud in one process is started by `arcus` as the one of three is', () => {
  const script = readFileSync(new URL('../../arcus', import.meta.url), 'utf8')
  assert.ok(script.includes(`exec "$node" ${CLOUD_HEAP.join(' ')} "$program/main.js"`))
  assert.ok(script.includes(`MALLOC_ARENA_MAX:-${MALLOC.MALLOC_ARENA_MAX}`))
  const { env, argv } = programsOf(cloudware()).cloud
  assert.equal(env['MALLOC_ARENA_MAX'], MALLOC.MALLOC_ARENA_MAX)
  assert.equal(argv[argv.findIndex((it) => it.endsWith('/main.js')) - 1], CLOUD_HEAP.at(-1))
})

test('the API is on plain HTTP only for this machine', () => {
  assert.equal(urlOf(cloudware()), 'http://127.0.0.1:8080')
  const open = [parseListen('thecloud=127.0.0.1:1'), parseListen('0.0.0.0:8080')]
  assert.equal(urlOf(cloudware({ listen: open })), 'https://127.0.0.1:8080')
})

test('whatever the processes are started with is in the version', () => {
  const versions = [
    {},
    { program: '/usr/local/lib/arcus/def' },
    { listen: [parseListen('127.0.0.1:9090')] },
    { more: ['--log-level', 'debug'] },
    { settings: { ARCUS_LOG: 'debug' } },
    { layout: folderLayout('/srv/arcus') },
  ].map((it) => versionOf(cloudware(it)))
  assert.equal(new Set(versions).size, versions.length)
  assert.equal(versionOf(cloudware()), versionOf(cloudware()))
})

describe('units', () => {
  test('start the agent before Docker and end it alone', () => {
    const agent = renderUnits(cloudware())['/etc/systemd/system/arcus-agent.service'] ?? ''
    assert.match(agent, /^Before=docker\.service$/m)
    assert.match(agent, /^KillMode=process$/m)
    assert.doesNotMatch(agent, /^User=/m)
  })
  test('quote what systemd would expand', () => {
    const settings = { ARCUS_NOTE: 'a "b" 100% $HOME' }
    const more = ['--log-level', '$x%y']
    const cloud = renderUnits(cloudware({ settings, more }))['/etc/systemd/system/arcus-cloud.service'] ?? ''
    assert.ok(cloud.includes('Environment="ARCUS_NOTE=a \\"b\\" 100%% $HOME"\n'))
    assert.ok(cloud.includes('"$$x%%y"'))
    assert.match(cloud, /^User=arcus$/m)
    assert.match(cloud, /^CapabilityBoundingSet=$/m)
    assert.match(cloud, /^StandardOutput=null$/m)
  })
})

test('units that were written and not started anew are so the next time', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'arcus-units-'))
  t.after(() => rmSync(root, { recursive: true }))
  const asked: string[] = []
  const apply = async (program: string, cutAt?: string): Promise<string[]> => {
    asked.splice(0)
    const systemctl = async (...args: string[]): Promise<void> => {
      const said = args.join(' ')
      if (said === cutAt) throw new Error('cut short')
      if (args[0] !== 'enable') asked.push(said)
      await Promise.resolve()
    }
    await applyUnits(cloudware({ program }), async () => {}, { root, systemctl }).catch((error: unknown) => {
      if (cutAt === undefined) throw error
    })
    return [...asked]
  }
  const [agent, edge, cloud] = UNIT_NAMES
  const all = ['daemon-reload', ...UNIT_NAMES.map((it) => `restart ${it}`)]
  assert.deepEqual(await apply('/one'), all)
  assert.deepEqual(
    await apply('/one'),
    UNIT_NAMES.map((it) => `start ${it}`),
  )
  await apply('/two', 'daemon-reload')
  await apply('/two', `restart ${edge}`)
  assert.deepEqual(await apply('/two'), [
    'daemon-reload',
    `start ${agent}`,
    `restart ${edge}`,
    `restart ${cloud}`,
  ])
  assert.deepEqual(
    await apply('/two'),
    UNIT_NAMES.map((it) => `start ${it}`),
  )
})
