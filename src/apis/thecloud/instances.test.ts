import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, test } from 'node:test'
import { replica } from '#cloud/compute/replica.kind.ts'
import { tenant } from '#cloud/identity/tenant.kind.ts'
import type { Fault } from '#drivers/simulated/network.ts'
import { CloudError } from '#lib/errors.ts'
import { circloud } from '#apis/circloud/server.ts'
import { type Person, testDialect, type TestDialect } from './thecloud.testing.ts'

const KEY = `ssh-ed25519 ${Buffer.concat([
  Buffer.from([0, 0, 0, 11]),
  Buffer.from('ssh-ed25519'),
  Buffer.from([0, 0, 0, 32]),
  Buffer.alloc(32, 7),
]).toString('base64')} ann@example`

type World = { it: TestDialect; ann: Person; settle: () => Promise<void> }

async function world(fault?: Fault): Promise<World & AsyncDisposable> {
  const it = await testDialect({ others: [circloud], ...(fault ? { fault } : {}) })
  const ann = await it.person('ann')
  return {
    it,
    ann,
    settle: async () => await it.world.settle(),
    [Symbol.asyncDispose]: async () => await it[Symbol.asyncDispose](),
  }
}

/** Launches and lets it come up. */
async function launched({ ann, settle }: World, name = 'web', more: object = {}) {
  const made = await ann.data('POST', '/instances', { name, image: 'nginx', ...more })
  await settle()
  return made
}

const status = async ({ ann }: World, id: string): Promise<string> =>
  (await ann.data('GET', `/instances/${id}`)).status

describe('instance types', () => {
  test('are those of the contract, flat and as a page', async () => {
    await using w = await world()
    const all = await w.ann.data('GET', '/instance-types')
    assert.deepEqual(
      all.find((one: { id: string }) => one.id === 'basic-2'),
      {
        id: 'basic-2',
        name: 'Basic 2',
        vcpus: 1,
        memory_mb: 1024,
        disk_gb: 10,
        network_mbps: 1000,
        price_per_hour: 0.02,
        category: 'general-purpose',
      },
    )
    assert.ok(all.some((one: { id: string }) => one.id === 'basic-4'))
    const page = await w.ann.data('GET', '/instance-types?limit=3&offset=6')
    assert.equal(page.total_count, 8)
    assert.equal(page.data.length, 2)
    assert.equal(page.has_more, false)
  })
})

describe('SSH keys', () => {
  test('are registered, listed, read by name and deleted', async () => {
    await using w = await world()
    const made = await w.ann.data('POST', '/ssh-keys', { name: 'mine', public_key: ` ${KEY}\n` })
    const [, body = ''] = KEY.split(' ')
    const hash = createHash('sha256').update(Buffer.from(body, 'base64')).digest('base64').replace(/=+$/, '')
    assert.equal(made.fingerprint, `SHA256:${hash}`)
    assert.equal(made.user_id, w.ann.id)
    assert.equal(made.public_key, KEY)
    assert.deepEqual(await w.ann.data('GET', '/ssh-keys'), [made])
    assert.deepEqual(await w.ann.data('GET', '/ssh-keys?limit=1'), {
      data: [made],
      total_count: 1,
      has_more: false,
    })
    assert.deepEqual(await w.ann.data('GET', '/ssh-keys/mine'), made)
    assert.equal((await w.ann.call('DELETE', `/ssh-keys/${made.id}`)).status, 204)
    assert.equal((await w.ann.call('GET', '/ssh-keys/mine')).status, 404)
  })

  test('a name is taken once in a tenant, and a text that is no key is refused', async () => {
    await using w = await world()
    const bob = await w.it.person('bob')
    for (const [person, wanted] of [
      [w.ann, 201],
      [w.ann, 409],
      [bob, 201],
    ] as const) {
      const { status: got } = await person.call('POST', '/ssh-keys', { name: 'mine', public_key: KEY })
      assert.equal(got, wanted)
    }
    for (const text of ['nothing', 'ssh-rsa AAAA', KEY.replace('ssh-ed25519', 'ssh-rsa'), `${KEY}\n${KEY}`]) {
      const { status: got, body } = await w.ann.call('POST', '/ssh-keys', { name: 'other', public_key: text })
      assert.equal(got, 400)
      assert.match(body.error.message, /one line of a public key/)
    }
  })
})

describe('launching', () => {
  test('answers STARTING at once and runs later, in the default VPC', async () => {
    await using w = await world()
    const { status: code, body } = await w.ann.call('POST', '/instances', {
      // As the command line sends what nobody set.
      name: 'web',
      image: 'nginx',
      ports: '',
      vpc_id: '',
      subnet_id: null,
      volumes: null,
      cmd: null,
      env: ['A=1', 'B=x=y'],
      ssh_key_id: '00000000-0000-0000-0000-000000000000',
      metadata: { team: 'blue' },
      labels: { env: 'prod' },
    })
    assert.equal(code, 202)
    const { data } = body
    assert.equal(data.status, 'STARTING')
    assert.equal(data.instance_type, 'basic-2')
    assert.equal(data.user_id, w.ann.id)
    assert.deepEqual(data.env, ['A=1', 'B=x=y'])
    assert.deepEqual([data.metadata, data.labels], [{ team: 'blue' }, { env: 'prod' }])
    assert.match(data.private_ip, /^172\.31\./)
    await w.settle()
    const now = await w.ann.data('GET', `/instances/${data.id}`)
    assert.equal(now.status, 'RUNNING')
    assert.ok(now.container_id)
    assert.ok(now.version > data.version)
    assert.equal(now.private_ip, data.private_ip)
    assert.equal(now.memory_limit, 1024 * 1024 * 1024)
  })

  test('has the key of whoever may log in, and names by UUID or name', async () => {
    await using w = await world()
    await w.ann.data('POST', '/ssh-keys', { name: 'mine', public_key: KEY })
    const first = await launched(w, 'one', { ssh_key_id: 'mine' })
    assert.deepEqual(first.env, [`SSH_PUBLIC_KEY=${KEY}`])
    const second = await launched(w, 'two', { vpc_id: 'default', subnet_id: first.subnet_id })
    assert.equal(second.subnet_id, first.subnet_id)
    for (const wrong of [{ vpc_id: 'no-such' }, { subnet_id: first.vpc_id }, { ssh_key_id: 'none' }]) {
      const { status: got } = await w.ann.call('POST', '/instances', { name: 'x', image: 'nginx', ...wrong })
      assert.equal(got, 404)
    }
  })

  test('what is wrong is refused by its word', async () => {
    await using w = await world()
    const cases: readonly [object, number, string][] = [
      [{ name: 'a b' }, 400, 'INVALID_INPUT'],
      [{ name: '' }, 400, 'INVALID_INPUT'],
      [{ image: '' }, 400, 'INVALID_INPUT'],
      [{ instance_type: 'huge' }, 400, 'INVALID_INPUT'],
      [{ ports: '80' }, 400, 'INVALID_PORT_FORMAT'],
      [{ ports: '70000:80' }, 400, 'INVALID_PORT_FORMAT'],
      [{ ports: '30000:0' }, 400, 'INVALID_PORT_FORMAT'],
      [{ ports: '22:22' }, 409, 'PORT_CONFLICT'],
      [{ ports: '30001:80,30001:81' }, 409, 'PORT_CONFLICT'],
      [{ ports: Array.from({ length: 11 }, (_, n) => `${n + 1000}:80`).join(',') }, 409, 'TOO_MANY_PORTS'],
      [{ volumes: [{ volume_id: 'none', mount_path: '/data' }] }, 404, 'NOT_FOUND'],
      [{ env: ['novalue'] }, 400, 'INVALID_INPUT'],
    ]
    for (const [wrong, code, type] of cases) {
      const { status: got, body } = await w.ann.call('POST', '/instances', {
        name: 'x',
        image: 'nginx',
        ...wrong,
      })
      assert.equal(got, code, JSON.stringify([wrong, body]))
      assert.equal(body.error.type, type)
    }
    assert.deepEqual(await w.ann.data('GET', '/instances'), [])
  })

  test('opens ports of the host, each of one instance and none that the host listens on', async () => {
    await using w = await world()
    const bob = await w.it.person('bob')
    w.it.world.network.occupy({ protocol: 'tcp', port: 30_001 })
    const web = await launched(w, 'web', { ports: ' 30080:80, 0:22,0:22' })
    assert.equal(web.ports, '30080:80,30000:22,30002:22')
    assert.equal((await w.ann.data('GET', '/instances/web')).ports, web.ports)
    const planned = w.it.world.network.plans.get(web.vpc_id)?.published ?? []
    const { items } = await w.it.world.engine.list(replica, { tenant: w.ann.tenant })
    assert.deepEqual(
      planned.map(({ host, container, protocol, backends }) => [host, container, protocol, backends]),
      [
        [30_080, 80, 'tcp', items.map((one) => one.id)],
        [30_000, 22, 'tcp', items.map((one) => one.id)],
        [30_002, 22, 'tcp', items.map((one) => one.id)],
      ],
    )
    for (const port of [30_080, 30_001]) {
      const other = { name: 'other', image: 'nginx', ports: `${port}:80` }
      const { status: got, body } = await bob.call('POST', '/instances', other)
      assert.deepEqual([got, body.error.type], [409, 'PORT_CONFLICT'])
    }
    await w.ann.call('DELETE', '/instances/web')
    await w.settle()
    const heir = await bob.call('POST', '/instances', { name: 'heir', image: 'nginx', ports: '30080:80' })
    assert.equal(heir.body.data.ports, '30080:80')
  })

  test('a quota that is used up is 429 for a launch and 403 for another size', async () => {
    await using w = await world()
    // 8 vCPU and 16 GiB are what a person's own tenant has.
    const big = await launched(w, 'big', { instance_type: 'standard-4' })
    const more = await w.ann.call('POST', '/instances', {
      name: 'more',
      image: 'nginx',
      instance_type: 'performance-2',
    })
    assert.deepEqual([more.status, more.body.error.type], [429, 'QUOTA_EXCEEDED'])
    const { status: got, body } = await w.ann.call('POST', `/instances/${big.id}/resize`, {
      instance_type: 'performance-2',
    })
    assert.deepEqual([got, body.error.type], [403, 'QUOTA_EXCEEDED'])
    assert.equal((await w.ann.data('GET', '/instances/big')).instance_type, 'standard-4')
  })

  test('ports beyond the quota of them are 429, for an instance that then is not there', async () => {
    await using w = await world()
    const { cloud, admin } = w.it.world
    await cloud.act(admin, 'test', async (verbs) => {
      await verbs.patch(tenant, w.ann.tenant, { spec: { quotas: { publishedPorts: 1 } } })
    })
    await launched(w, 'one', { ports: '0:80' })
    const more = await w.ann.call('POST', '/instances', { name: 'more', image: 'nginx', ports: '0:80' })
    assert.deepEqual([more.status, more.body.error.type], [429, 'QUOTA_EXCEEDED'])
    assert.match(more.body.error.message as string, /published ports/)
    assert.equal((await w.ann.call('GET', '/instances/more')).status, 404)
  })

  test('an image that cannot be had ends in ERROR', async () => {
    await using w = await world()
    const { id } = await launched(w, 'web', { image: 'missing' })
    assert.equal(await status(w, id), 'ERROR')
  })
})

describe('lists and names', () => {
  test('are filtered by tags, all of which must match, and paged', async () => {
    await using w = await world()
    await launched(w, 'a', { labels: { env: 'prod', tier: 'web' } })
    await launched(w, 'b', { labels: { env: 'test' } })
    const names = async (query: string): Promise<string[]> =>
      (await w.ann.data('GET', `/instances${query}`)).map((one: { name: string }) => one.name)
    assert.deepEqual(await names(''), ['a', 'b'])
    assert.deepEqual(await names('?tag=env'), ['a', 'b'])
    assert.deepEqual(await names('?tag=env:prod'), ['a'])
    assert.deepEqual(await names('?tag=env&tag=tier:web'), ['a'])
    assert.deepEqual(await names('?tag=env:test&tag=tier'), [])
    const page = await w.ann.data('GET', '/instances?limit=1')
    assert.deepEqual([page.data.length, page.total_count, page.has_more], [1, 2, true])
  })

  test('one is meant by id, name or the beginning of an id, never a foreign one', async () => {
    await using w = await world()
    const bob = await w.it.person('bob')
    const { id } = await launched(w)
    for (const reference of [id, id.toUpperCase(), 'web', id.slice(0, 13)])
      assert.equal((await w.ann.data('GET', `/instances/${reference}`)).id, id)
    for (const reference of [id, 'web'])
      assert.equal((await bob.call('GET', `/instances/${reference}`)).status, 404)
    await launched(w)
    const several = await w.ann.call('GET', '/instances/web')
    assert.equal(several.status, 400)
    assert.match(several.body.error.message, /names several/)
  })

  test('two of one name are two pods for Circloud, and both answer to the name', async () => {
    await using w = await world()
    const one = await launched(w)
    const two = await launched(w)
    const zone = w.it.world.edge.zones.get(one.vpc_id)
    assert.deepEqual(zone?.names['web.default.internal']?.a, [one.private_ip, two.private_ip])
    assert.deepEqual(zone?.names[`web-${one.id.slice(-8)}`]?.a, [one.private_ip])
  })
})

describe('power', () => {
  test('stop keeps it, is fine twice, and PUT starts it in the same container', async () => {
    await using w = await world()
    const { id } = await launched(w)
    const before = (await w.ann.data('GET', `/instances/${id}`)).container_id
    for (let n = 0; n < 2; n++) {
      const { body } = await w.ann.call('POST', `/instances/${id}/stop`)
      assert.equal(body.data.message, 'instance stop initiated')
      assert.equal(body.message, 'instance stop initiated')
    }
    await w.settle()
    assert.equal(await status(w, id), 'STOPPED')
    const [slot] = (await w.it.world.engine.list(replica, { tenant: w.ann.tenant })).items
    assert.equal(slot?.status.phase, 'stopped')
    assert.equal((await w.it.world.compute.observe(slot?.id ?? '', AbortSignal.timeout(1000)))?.state, 'off')
    assert.equal((await w.ann.data('PUT', `/instances/${id}`, { status: 'RUNNING' })).status, 'STARTING')
    await w.settle()
    const now = await w.ann.data('GET', `/instances/${id}`)
    assert.deepEqual([now.status, now.container_id], ['RUNNING', before])
  })

  test('pause only what runs, resume only what is paused', async () => {
    await using w = await world()
    const { id } = await launched(w)
    const ask = async (word: string): Promise<[number, string]> => {
      const { status: got, body } = await w.ann.call('POST', `/instances/${id}/${word}`)
      return [got, body.error?.type ?? body.data.message]
    }
    assert.deepEqual(await ask('resume'), [400, 'CONFLICT'])
    assert.deepEqual(await ask('pause'), [200, 'instance paused'])
    assert.deepEqual(await ask('pause'), [400, 'CONFLICT'])
    await w.settle()
    assert.equal(await status(w, id), 'PAUSED')
    const [slot] = (await w.it.world.engine.list(replica, { tenant: w.ann.tenant })).items
    assert.deepEqual([slot?.status.phase, slot?.status.ready], ['paused', false])
    assert.deepEqual(await ask('resume'), [200, 'instance resumed'])
    await w.settle()
    assert.equal(await status(w, id), 'RUNNING')
    await ask('stop')
    assert.deepEqual(await ask('pause'), [400, 'CONFLICT'])
    assert.equal((await w.ann.call('PUT', `/instances/${id}`, { status: 'PAUSED' })).status, 400)
  })

  test('a paused one is not known by name to others, nor billed', async () => {
    await using w = await world()
    const { id } = await launched(w)
    await w.ann.call('POST', `/instances/${id}/pause`)
    await w.settle()
    const { records } = await w.it.world.engine.store.records({
      stream: 'usage',
      tenant: w.ann.tenant,
      limit: 100,
    })
    assert.ok(records.length > 0)
    const [slot] = (await w.it.world.engine.list(replica, { tenant: w.ann.tenant })).items
    assert.equal(slot?.status.metered, undefined)
  })

  test('terminated it is gone, and its name with it', async () => {
    await using w = await world()
    const { id } = await launched(w)
    const { status: got, body } = await w.ann.call('DELETE', '/instances/web')
    assert.deepEqual([got, body.data.message], [200, 'instance terminated'])
    assert.equal((await w.ann.call('GET', `/instances/${id}`)).status, 404)
    await w.settle()
    assert.deepEqual(await w.ann.data('GET', '/instances'), [])
    assert.equal(w.it.world.compute.wishes.size, 0)
  })

  test('terminated it leaves what its console showed, once, though its machine fails at first', async () => {
    let asked = 0
    await using w = await world((verb) => {
      if (verb === 'compute.logs' && asked++ === 0) throw new CloudError('unavailable', 'no answer')
    })
    const { id } = await launched(w)
    await w.ann.call('DELETE', `/instances/${id}`)
    await w.settle()
    const { entries, total } = await w.ann.data('GET', `/logs/${id}`)
    const [{ resource_type: type, level, message }] = entries
    assert.deepEqual([total, type, level], [1, 'instance', 'INFO'])
    assert.match(message, /^simulated /)
    assert.equal(asked, 2)
    assert.deepEqual(await w.ann.data('GET', '/instances'), [])
  })
})

describe('changes', () => {
  test('another size reaches the same container, the same size changes nothing', async () => {
    await using w = await world()
    const { id } = await launched(w)
    const before = await w.ann.data('GET', `/instances/${id}`)
    const { body } = await w.ann.call('POST', `/instances/${id}/resize`, { instance_type: 'basic-4' })
    assert.deepEqual(body.data, { message: 'instance resized', instance_type: 'basic-4', status: 'RUNNING' })
    await w.settle()
    const now = await w.ann.data('GET', `/instances/${id}`)
    assert.deepEqual(
      [now.container_id, now.cpu_limit, now.memory_limit],
      [before.container_id, 2, 2048 * 1024 * 1024],
    )
    const [wish] = (await w.it.world.engine.list(replica, { tenant: w.ann.tenant })).items
    assert.equal(w.it.world.compute.wishes.get(wish?.id ?? '')?.memoryMib, 2048)
    await w.ann.data('POST', `/instances/${id}/resize`, { instance_type: 'basic-4' })
    assert.equal((await w.ann.data('GET', `/instances/${id}`)).version, now.version)
    assert.equal((await w.ann.call('POST', `/instances/${id}/resize`, { instance_type: 'x' })).status, 400)
  })

  test('metadata and tags are merged, and an empty value removes one', async () => {
    await using w = await world()
    const { id } = await launched(w, 'web', { metadata: { a: '1', b: '2' }, labels: { x: '1' } })
    await w.ann.data('PUT', `/instances/${id}/metadata`, { metadata: { a: '', c: '3' }, labels: null })
    await w.ann.data('POST', `/instances/${id}/tags`, { tags: { y: '2' } })
    assert.deepEqual(await w.ann.data('GET', `/instances/${id}/tags`), { x: '1', y: '2' })
    await w.ann.data('DELETE', `/instances/${id}/tags/x`)
    await w.ann.data('DELETE', `/instances/${id}/tags/none`)
    const now = await w.ann.data('PUT', `/instances/${id}`, { name: 'other', status: null })
    assert.deepEqual([now.metadata, now.labels, now.name], [{ b: '2', c: '3' }, { y: '2' }, 'other'])
  })
})

describe('sight', () => {
  test('stats and logs need a container, and logs are plain text', async () => {
    await using w = await world()
    const { id } = await w.ann.data('POST', '/instances', { name: 'web', image: 'nginx' })
    for (const [what, code] of [
      ['stats', 409],
      ['logs', 409],
      ['console', 400],
    ] as const) {
      const { status: got, body } = await w.ann.call('GET', `/instances/${id}/${what}`)
      assert.deepEqual([got, body.error.type], [code, 'INSTANCE_NOT_RUNNING'], what)
    }
    await w.settle()
    const stats = await w.ann.data('GET', `/instances/${id}/stats`)
    assert.equal(stats.memory_limit_bytes, 1024 * 1024 * 1024)
    assert.equal(stats.memory_usage_bytes, 8 << 20)
    // The contract's text is checked here: it has no schema.
    const text = { unchecked: true }
    const { body, headers } = await w.ann.call('GET', `/instances/${id}/logs`, undefined, text)
    assert.equal(body, 'simulated nginx\n')
    assert.match(String(headers['content-type']), /^text\/plain/)
    await w.ann.data('POST', `/instances/${id}/stop`)
    await w.settle()
    assert.equal((await w.ann.call('GET', `/instances/${id}/logs`, undefined, text)).status, 200)
    assert.equal((await w.ann.call('GET', `/instances/${id}/stats`)).status, 409)
  })

  test('the console is a text for the command line, and the same beside it', async () => {
    await using w = await world()
    const { id } = await launched(w)
    const { body } = await w.ann.call('GET', `/instances/${id}/console`)
    assert.equal(typeof body.data, 'string')
    assert.equal(body.console_url, body.data)
    assert.match(body.data, new RegExp(`^ws://.*/thecloud/instances/${id}/console/terminal\\?ticket=`))
  })
})
