import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { test } from 'node:test'
import { connect } from 'node:tls'
import type { Publish } from '#cloud/edge/issuer.driver.ts'
import { backend, stage } from '#drivers/front/front.testing.ts'
import { acmeDriver } from '#drivers/issuer/acme.ts'
import { startPebble } from '../e2e/pebble.testing.ts'

const HOSTNAME = 'shop.example.net'
const signal = (): AbortSignal => AbortSignal.timeout(60_000)

test('an authority signs over HTTP-01 at the front door, which serves it by name; what fails is said', async () => {
  await using origin = await backend((_, response) => response.end('page'))
  await using at = await stage()
  await using pebble = await startPebble(at.http, '127.0.0.1')
  const driver = acmeDriver()
  const { directory, trust } = pebble
  const account = { directory, trust, ...(await driver.register({ directory, trust }, signal())) }
  let generation = 0
  let shown = 0
  const id = 'certificate-acme'
  const apply = async (more: object): Promise<void> =>
    await at.front.applyCertificate(
      { id, tenant: 'tenant-a', generation: ++generation, challenges: [], ...more },
      signal(),
    )
  const publish: Publish = async (challenges) => {
    shown += challenges.length
    const answers = challenges.flatMap((one) =>
      one.type === 'http-01' ? [{ hostname: one.hostname, token: one.token, answer: one.answer }] : [],
    )
    await apply({ challenges: answers })
  }
  const order = (names: readonly string[]) =>
    driver.issue(account, { names, challenge: 'http-01' }, publish, signal())

  await at.route({ hostname: HOSTNAME, certificate: id, origins: [origin.as('a')] })
  const issued = await order([HOSTNAME]).catch((error: unknown) => {
    throw new Error(pebble.log(), { cause: error })
  })
  assert.equal(shown, 1)
  await apply({ issued: { names: [HOSTNAME], ...issued } })
  const socket = connect({
    host: '127.0.0.1',
    port: at.https,
    servername: HOSTNAME,
    ca: await pebble.root(),
  })
  try {
    await once(socket, 'secureConnect', { signal: signal() })
    assert.match(socket.getPeerX509Certificate()?.issuer ?? '', /Pebble Intermediate/)
    assert.equal(
      socket.getPeerX509Certificate()?.fingerprint256,
      new X509Certificate(issued.chain).fingerprint256,
    )
  } finally {
    socket.destroy()
  }

  await assert.rejects(order(['*.example.net']), /offers no http-01 for/)
  const told: number[] = []
  const nowhere: Publish = async (challenges) => {
    told.push(challenges.length)
    if (challenges.length) await Promise.reject(new Error('no place for it'))
  }
  const names = ['unpublished.example.net']
  await assert.rejects(
    driver.issue(account, { names, challenge: 'http-01' }, nowhere, signal()),
    /no place for it/,
  )
  assert.deepEqual(told, [1, 0], 'what may be half published is taken away')
  pebble.shut()
  await assert.rejects(order([HOSTNAME]), /the authority took no order: .*ECONNREFUSED/)
  await pebble.open()
  assert.notEqual((await order([HOSTNAME])).chain, issued.chain)
})
