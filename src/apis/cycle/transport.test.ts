import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import { connect } from 'node:net'
import { after, test } from 'node:test'
import { objectId } from '#lib/object-id.ts'
import { askSocket } from './cycle.testing.ts'
import { seededWorld, snapshot } from './seed.testing.ts'

const world = await seededWorld()
after(async () => await world[Symbol.asyncDispose]())
const web = await world.member('web')
const orders = await world.member('orders')
const codeOf = async (asked: ReturnType<typeof web.ask>): Promise<unknown[]> => {
  const { status, body } = await asked
  return [status, body.error?.code]
}

test('the token must be there, known, and of the socket that it is sent to', async () => {
  const invalid = [401, '401.auth-invalid']
  for (const token of [null, '', 'nonsense', orders.token, `${web.token}x`])
    assert.deepEqual(await codeOf(web.ask('GET', '/v1/container', { token })), invalid, String(token))
  assert.equal(
    (await web.ask('GET', '/v1/container', { headers: { 'X-Cycle-Token': web.token } })).status,
    200,
  )
  // Its container was replaced by another since.
  const { workload } = web.replica.spec
  await world.it.cloud.act(world.caller, 'test', async (verbs) => await verbs.restartWorkload(workload))
  await world.it.settle()
  const [now] = await world.members(world.caller, workload)
  assert.deepEqual(await codeOf(web.ask('GET', '/v1/container')), [401, '401.auth-expired'])
  assert.equal((await now?.ask('GET', '/v1/container'))?.status, 200)
})

test('nobody gets there by an address', async () => {
  const headers = { 'x-cycle-token': orders.token }
  for (const path of ['/cycle/v1/container', '/cycle/v1/notifications', '/cycle/', '/cycle']) {
    const { status, body } = await ask(`${world.url}${path}`, headers)
    assert.equal(status, 404, path)
    assert.doesNotMatch(body, /orders/)
  }
  assert.equal((await ask(`${world.url}/v1/container`, { ...headers, host: 'cycle.localhost' })).status, 404)
  assert.equal((await ask(`${world.url}/openapi/cycle.json`)).status, 200)
  assert.equal((await ask(`${world.url}/docs/cycle`)).status, 200)
})

const ask = async (url: string, headers = {}): Promise<{ status: number; body: string }> => {
  const [response] = (await once(http.get(url, { headers }), 'response')) as [http.IncomingMessage]
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  return { status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }
}

test('a socket leads to no other API', async () => {
  for (const path of [
    '/native/whoami',
    '/healthz',
    '/metrics',
    '/version',
    '/circloud/pods',
    '/openapi/native.json',
  ])
    for (const host of ['localhost', 'native.localhost', 'circloud.localhost']) {
      const answer = await askSocket(orders.socket, 'GET', path, { token: orders.token, headers: { host } })
      assert.deepEqual([answer.status, answer.body.error.code], [404, '404.uri'], `${host}${path}`)
    }
  const absolute = await askSocket(orders.socket, 'GET', 'http://native.localhost/native/whoami', {
    token: orders.token,
  })
  assert.equal(absolute.status, 404)
})

test('bodies are JSON, whatever is said of them or not', async () => {
  const path = '/v1/monitoring/metrics'
  assert.equal((await orders.ask('POST', path, { raw: '[]' })).status, 200)
  const type = (it: string) => ({ 'content-type': it })
  assert.equal((await orders.ask('POST', path, { raw: '[]', headers: type('application/json') })).status, 200)
  assert.deepEqual(await codeOf(orders.ask('POST', path, { raw: '[]', headers: type('text/plain') })), [
    415,
    '415.invalid-content-type',
  ])
  assert.deepEqual(await codeOf(orders.ask('POST', path, { raw: '[' })), [400, '400.invalid-syntax'])
  assert.deepEqual(await codeOf(orders.ask('POST', path, { raw: '{}' })), [422, '422.invalid-argument'])
  assert.deepEqual(await codeOf(orders.ask('POST', path)), [422, '422.invalid-argument'])
  const long = JSON.stringify([{ metric: 'x'.repeat(2_000_000), type: 'count' }])
  assert.deepEqual(await codeOf(orders.ask('POST', path, { raw: long })), [422, '422.max-exceeded'])
})

test('what is not there is told in the envelope, also a wrong method', async () => {
  for (const [method, path] of [
    ['GET', '/'],
    ['GET', '/v1'],
    ['GET', '/v1/nothing'],
    ['POST', '/v1/container'],
    ['DELETE', '/v1/environment'],
    ['PUT', '/v1/monitoring/metrics'],
    ['GET', '/v2/container'],
    ['GET', '/v1/%zz'],
  ] as const)
    assert.deepEqual(await codeOf(orders.ask(method, path)), [404, '404.uri'], `${method} ${path}`)
  assert.equal((await orders.ask('GET', '/v1/container?limit=1&sort=x')).status, 200)
})

test('what is wrong is pointed at', async () => {
  const wrong = async (path: string, body: unknown, by = orders) => {
    const { status, body: answer } = await by.ask('POST', path, { body })
    return [status, answer.error.code, answer.error.source]
  }
  const metric = { metric: 'a', type: 'gauge' }
  const metrics = '/v1/monitoring/metrics'
  assert.deepEqual(await wrong(metrics, [{ type: 'gauge' }]), [422, '422.missing-argument', '/0/metric'])
  assert.deepEqual(await wrong(metrics, [{ ...metric, type: 'pie' }]), [
    422,
    '422.invalid-argument',
    '/0/type',
  ])
  assert.deepEqual(
    await wrong(metrics, [metric, { ...metric, points: [{ time: '2026-01-01T00:00:00Z', values: [1.5] }] }]),
    [422, '422.invalid-argument', '/1/points/0/values/0'],
  )
  const tasks = '/v1/conductor/tasks'
  const conductor = await world.member('conductor')
  const contents = {
    instance_id: objectId(orders.replica.id),
    container_id: objectId(orders.replica.spec.workload),
  }
  const none = 'f'.repeat(24)
  const stop = 'container.instance.stop'
  assert.deepEqual(await wrong(tasks, { action: 'explode', contents }, conductor), [
    422,
    '422.invalid-argument',
    '/action',
  ])
  assert.deepEqual(
    await wrong(tasks, { action: stop, contents: { ...contents, instance_id: none } }, conductor),
    [404, '404.instance', '/contents/instance_id'],
  )
  assert.deepEqual(
    await wrong(tasks, { action: stop, contents: { ...contents, container_id: none } }, conductor),
    [404, '404.container', '/contents/container_id'],
  )
  assert.deepEqual((await wrong(tasks, { action: stop, contents })).slice(0, 2), [403, '403.permissions'])
  const telemetry = '/v1/environment/services/lb/telemetry/snapshots'
  assert.deepEqual((await wrong(telemetry, { 'port-80': snapshot() })).slice(0, 2), [403, '403.not-allowed'])
  const balancer = await world.member('loadbalancer')
  const { dataset_id: _id, ...short } = snapshot()
  assert.deepEqual(await wrong(telemetry, { 'port-80': snapshot(), 'port-443': short }, balancer), [
    422,
    '422.missing-argument',
    '/port-443/dataset_id',
  ])
  assert.deepEqual(await wrong('/v1/server/images/download', { image_id: none }), [
    404,
    '404.image',
    '/image_id',
  ])
})

test('what is no HTTP is answered in the envelope', async () => {
  const socket = connect(orders.socket)
  socket.end('nonsense\r\n\r\n')
  const chunks: Buffer[] = []
  for await (const chunk of socket) chunks.push(chunk as Buffer)
  const [head = '', body = ''] = Buffer.concat(chunks).toString('utf8').split('\r\n\r\n')
  assert.match(head, /^HTTP\/1.1 400 /)
  assert.equal(JSON.parse(body).error.code, '400.invalid-syntax')
  assert.equal(JSON.parse(body).data, null)
})

test("the vendor's first Node client gets its data, on a connection that it keeps", async () => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  const get = async (path: string) =>
    (await askSocket(orders.socket, 'GET', `/v1/${path}`, { token: orders.token, agent })).body.data
  assert.ok((await get('environment/services')).discovery)
  assert.ok((await get('environment/containers'))[0].config)
  assert.ok((await get('container/instances'))[0].container_id)
  assert.ok((await get('environment/ips'))[0].kind)
  assert.ok((await get('server')).hostname)
  assert.deepEqual((await get('hub')).providers, {})
  assert.deepEqual(await get('container/certificates'), [])
  agent.destroy()
})

test('nothing was a bug', () => assert.deepEqual(world.bugs, []))
