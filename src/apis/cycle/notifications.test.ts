import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { after, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import WebSocket from 'ws'
import { objectId } from '#lib/object-id.ts'
import { contractAjv } from '../../../test/e2e/contract.testing.ts'
import type { Member } from './cycle.testing.ts'
import type { Notification } from './notification.ts'
import { RESUME_SECONDS } from './positions.ts'
import { seededWorld } from './seed.testing.ts'

const ARRIVES_MS_MAX = 5000
const document = JSON.parse(
  readFileSync(new URL('../../../test/contracts/cycle.json', import.meta.url), 'utf8'),
) as object
const ajv = contractAjv()
ajv.addSchema(document, 'contract')
const fits = ajv.compile({ $ref: 'contract#/components/schemas/NotificationMessage' })

const STALL_MS = 150
/** More than the kernel and a client that is paused keep for it. */
const FLOOD = 600
const world = await seededWorld({ stallMs: STALL_MS })
after(async () => await world[Symbol.asyncDispose]())
const web = await world.member('web')

/** A client as the vendor's is, with what it was sent so far. */
async function listen(member: Member, path = '/v1/notifications', headers: Record<string, string> = {}) {
  const socket = new WebSocket(`ws+unix://${member.socket}:${path}`, {
    headers: { 'x-cycle-token': member.token, ...headers },
  })
  const messages: Notification[] = []
  socket.on('message', (data: Buffer, isBinary) => {
    assert.equal(isBinary, false)
    const message = JSON.parse(data.toString('utf8')) as Notification
    assert.ok(fits(message), `${ajv.errorsText(fits.errors)}: ${data.toString('utf8')}`)
    messages.push(message)
  })
  await once(socket, 'open')
  return {
    socket,
    messages,
    async until(topic: string, count = 1): Promise<Notification> {
      for (const until = performance.now() + ARRIVES_MS_MAX; ; await pause(5)) {
        const found = messages.filter((it) => it.topic === topic)
        const last = found[count - 1]
        if (last) return last
        assert.ok(performance.now() < until, `no ${topic}, only ${JSON.stringify(messages)}`)
      }
    },
    async close(code = 1000) {
      socket.close(code)
      await once(socket, 'close')
    },
  }
}

const tagged = async (version: string): Promise<void> => {
  const vpcs = world.it.cloud.kinds.get('vpc')
  assert.ok(vpcs)
  await world.it.cloud.act(world.caller, 'test', async (verbs) => {
    await verbs.patch(vpcs, world.vpcs.shop.id, { spec: { deployments: { live: version } } })
  })
}
const DEPLOYED = 'environment.deployments.reconfigured'

test('a change is told to those who share the environment or a network with it, and to nobody else', async () => {
  const stranger = await world.it.tenant('stranger')
  const vpc = await world.make(stranger.caller, 'vpc', 'theirs', {})
  const subnet = await world.make(stranger.caller, 'subnet', 'web', { vpc: vpc.id, cidr: '10.9.0.0/24' })
  const spec = { vpc: vpc.id, subnet: subnet.id, image: 'nginx', replicas: 1 }
  const { id } = await world.make(stranger.caller, 'workload', 'theirs', spec)
  const lonely = await world.make(world.caller, 'vpc', 'lonely', {})
  const lonelySubnet = await world.make(world.caller, 'subnet', 'lonely', {
    vpc: lonely.id,
    cidr: '10.9.0.0/24',
  })
  const alone = await world.make(world.caller, 'workload', 'alone', {
    ...spec,
    vpc: lonely.id,
    subnet: lonelySubnet.id,
  })
  await world.it.settle()
  const [theirs] = await world.members(stranger.caller, id)
  const [apart] = await world.members(world.caller, alone.id)
  assert.ok(theirs && apart)
  const told = [await listen(web), await listen(await world.member('ledger'), '/')]
  const untold = [await listen(theirs), await listen(apart)]
  await tagged('v2')
  for (const it of told) {
    const message = await it.until(DEPLOYED)
    assert.equal(message.object.id, objectId(world.vpcs.shop.id))
    assert.deepEqual(message.context.clusters, ['default'])
    assert.ok(message.context.environments?.includes(objectId(world.vpcs.shop.id)))
  }
  for (const it of untold) assert.deepEqual(it.messages, [])
  await Promise.all([...told, ...untold].map(async (it) => await it.close()))
})

test('a state is told with the one before it, in both spellings', async () => {
  const client = await listen(web)
  const workload = world.workloads['orders']
  const [member] = await world.members(world.caller, workload?.id ?? '')
  const { id = '' } = member?.replica ?? {}
  world.it.compute.exit(id, 3)
  await world.it.engine.wake(`replica/${id}`)
  await world.it.settle()
  const message = await client.until('container.state.changed')
  assert.equal(message.object.id, objectId(workload?.id ?? ''))
  assert.ok(message.object.state)
  assert.equal(message.object.previous_state, 'running')
  assert.equal(message.object.state_previous, 'running')
  assert.deepEqual(message.context.containers, [objectId(workload?.id ?? '')])
  await client.until('container.instances.reconfigured')
  await client.close()
})

test('a connection that broke goes on without a gap', async () => {
  const before = await listen(web)
  await tagged('v3')
  await before.until(DEPLOYED)
  before.socket.terminate()
  await once(before.socket, 'close')
  for (const version of ['v4', 'v5']) await tagged(version)
  const next = await listen(web)
  // What was on its way may come twice.
  await next.until(DEPLOYED, 2)
  await tagged('v6')
  await next.until(DEPLOYED, 3)
  const cursors = next.messages.map((it) => it.cursor)
  assert.equal(new Set(cursors).size, cursors.length)
  await next.close()
  // One that was closed in order is over.
  await tagged('v7')
  const fresh = await listen(web)
  await tagged('v8')
  await fresh.until(DEPLOYED)
  assert.equal(fresh.messages.filter((it) => it.topic === DEPLOYED).length, 1)
  await fresh.close()
})

test('it goes on without a gap also while what told it has not ended', async () => {
  const { inside } = world.it.cloud
  const { events } = inside
  const held = Promise.withResolvers<void>()
  const ending: typeof events = async function* (...args) {
    try {
      yield* events(...args)
    } finally {
      await held.promise
    }
  }
  Object.assign(inside, { events: ending })
  const before = await listen(web)
  await tagged('h1')
  await before.until(DEPLOYED)
  Object.assign(inside, { events })
  before.socket.terminate()
  await once(before.socket, 'close')
  await tagged('h2')
  const next = await listen(web)
  await tagged('h3')
  await next.until(DEPLOYED, 2)
  await next.close()
  held.resolve()
})

test('one whose beginning cannot be found ends with that, and ends nothing else', async () => {
  const { inside } = world.it.cloud
  const { lastEvent } = inside
  Object.assign(inside, { lastEvent: async () => await Promise.reject(new Error('the store is away')) })
  const client = await listen(web)
  Object.assign(inside, { lastEvent })
  const [code] = (await once(client.socket, 'close')) as [number]
  assert.equal(code, 1011)
  assert.match((world.bugs as string[]).splice(0).join(), /notifications failed.*the store is away/)
})

test('a cursor goes on from any message', async () => {
  const client = await listen(web)
  for (const version of ['w1', 'w2', 'w3']) await tagged(version)
  await client.until(DEPLOYED, 3)
  await client.close()
  const [first] = client.messages.filter((it) => it.topic === DEPLOYED)
  for (const [path, headers] of [
    [`/v1/notifications?after=${encodeURIComponent(first?.cursor ?? '')}`, {}],
    ['/v1/notifications', { 'last-event-id': first?.cursor ?? '' }],
  ] as const) {
    const again = await listen(web, path, headers)
    await again.until(DEPLOYED, 2)
    assert.deepEqual(
      again.messages.map((it) => it.cursor),
      client.messages.slice(client.messages.indexOf(first as Notification) + 1).map((it) => it.cursor),
    )
    await again.close()
  }
})

test('a wrong token is refused at the upgrade, in the envelope', async () => {
  const socket = new WebSocket(`ws+unix://${web.socket}:/v1/notifications`, {
    headers: { 'x-cycle-token': 'nonsense' },
  })
  socket.on('error', () => {})
  const [, response] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage]
  assert.equal(response.statusCode, 401)
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  const body = JSON.parse(Buffer.concat(chunks).toString('utf8')) as { error: { code: string }; data: null }
  assert.deepEqual([body.error.code, body.data], ['401.auth-invalid', null])
})

test('a connection ends with its token', async () => {
  const member = await world.member('orders')
  const client = await listen(member)
  const closed = once(client.socket, 'close') as Promise<[number, Buffer]>
  await world.it.cloud.act(
    world.caller,
    'test',
    async (verbs) => await verbs.restartWorkload(member.replica.spec.workload),
  )
  await world.it.settle()
  const [code, reason] = await closed
  assert.equal(code, 1008)
  assert.match(reason.toString('utf8'), /token/)
})

test('what was sent and never read comes again', async () => {
  const client = await listen(web)
  client.socket.pause()
  for (let at = 0; at < 20; at++) await tagged(`unread-${at}`)
  await pause(50)
  client.socket.terminate()
  await once(client.socket, 'close')
  const next = await listen(web)
  await next.until(DEPLOYED, 20)
  await next.close()
})

test('who reads nothing is dropped with a reason, and goes on where it was', async () => {
  const slow = await listen(web)
  await tagged('flood')
  await slow.until(DEPLOYED)
  const closed = once(slow.socket, 'close') as Promise<[number, Buffer]>
  slow.socket.pause()
  for (let at = 0; at < FLOOD; at++) await tagged(`flood-${at}`)
  await pause(2 * STALL_MS)
  slow.socket.resume()
  const [code, reason] = await closed
  assert.equal(code, 1013)
  assert.match(reason.toString('utf8'), /slowly/)
  const next = await listen(web)
  await tagged('after')
  const all = (): Set<string> => new Set([...slow.messages, ...next.messages].map((it) => it.cursor))
  for (const until = performance.now() + ARRIVES_MS_MAX; all().size < FLOOD + 2; await pause(10))
    assert.ok(performance.now() < until, `${all().size} of ${FLOOD + 2} came`)
  await next.close()
})

test('a connection that broke with the process goes on at the next without a gap', async () => {
  // What the tests before did is too long ago to be told again: so much at once may be too much for a busy machine.
  await world.it.clock.advance((RESUME_SECONDS + 1) * 1000)
  const client = await listen(web)
  await tagged('before')
  await client.until(DEPLOYED)
  await world.it.clock.advance(1000)
  const closed = once(client.socket, 'close')
  await world.restart()
  await closed
  await tagged('between')
  const again = await world.member('web')
  const next = await listen(again)
  await tagged('behind')
  const told = (): Set<string> => new Set([...client.messages, ...next.messages].map((it) => it.cursor))
  await next.until(DEPLOYED, 2)
  const { records } = await world.it.engine.store.records({
    stream: 'event',
    tenant: '*',
    limit: 1000,
    newestFirst: true,
  })
  const missing = (): string[] =>
    records
      .flatMap((it) =>
        it.at >= world.it.clock.now() - 1000 && it.what === 'vpc.deployments.changed' ? [it.cursor] : [],
      )
      .filter((it) => !told().has(it))
  for (const until = performance.now() + ARRIVES_MS_MAX; missing().length > 0; await pause(10))
    assert.ok(performance.now() < until, `${missing().length} did not come`)
  await next.close()
  // It closed in order: over.
  await tagged('while nobody listens')
  const fresh = await listen(again)
  await tagged('last')
  await fresh.until(DEPLOYED)
  assert.equal(fresh.messages.filter((it) => it.topic === DEPLOYED).length, 1)
  await fresh.close()
})

test('nothing was a bug', () => assert.deepEqual(world.bugs, []))
