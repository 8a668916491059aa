import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isCloudError } from '#lib/errors.ts'
import type { Caller } from '#cloud/access.ts'
import { PROVIDER, testCloud, type TestCloud } from '#cloud/cloud.testing.ts'
import { acme } from './acme.kind.ts'
import { certificate, type Certificate } from './certificate.kind.ts'
import { domain, type Domain } from './domain.kind.ts'

const DAY_MS = 86_400_000

const claim = async (it: TestCloud, caller: Caller, name: string): Promise<Domain> =>
  (await it.cloud.act(caller, 'test', (verbs) => verbs.create(domain as never, { name, spec: {} }))) as Domain
const certify = async (
  it: TestCloud,
  caller: Caller,
  name: string,
  source: Certificate['spec']['source'] = 'internal',
): Promise<Certificate> =>
  await it.cloud.act(caller, 'test', (verbs) =>
    verbs.createCertificate({ name, spec: { names: [name], source } }),
  )
/** Puts the TXT record that proves a domain into the world's DNS. */
const prove = (it: TestCloud, { name, spec }: Domain): void =>
  void it.world.records.set(`_arcus.${name}`, ['v=other', `arcus-domain=${spec.challenge}`])

const setUp = async (it: TestCloud, spec: object = {}): Promise<void> => {
  await it.cloud.act(it.admin, 'test', (verbs) =>
    verbs.create(acme as never, {
      name: 'acme',
      spec: { directory: 'https://authority.example/directory', ...spec },
    }),
  )
  await it.settle()
}

test('a tenant proves a domain by a TXT record, and may use it from then on', async () => {
  await using it = await testCloud()
  const { caller } = await it.tenant('acme')
  const made = await claim(it, caller, 'Acme.example')
  assert.equal(made.name, 'acme.example')
  await it.cloud.settle(0)
  const waiting = await it.cloud.get(caller, domain, made.id)
  assert.equal(waiting.status.state, 'pending')
  assert.ok(waiting.status.message?.includes(`_arcus.acme.example TXT "arcus-domain=${made.spec.challenge}"`))
  await assert.rejects(certify(it, caller, 'acme.example'), (error: unknown) =>
    isCloudError(error, 'invalid'),
  )
  prove(it, made)
  await it.settle(15_000)
  assert.equal((await it.cloud.get(caller, domain, made.id)).status.state, 'verified')
  await certify(it, caller, 'acme.example')
})

test('nobody is kept from a domain by one who only asked for it', async () => {
  await using it = await testCloud()
  const [squatter, owner] = [(await it.tenant('squatter')).caller, (await it.tenant('owner')).caller]
  const first = await claim(it, squatter, 'acme.example')
  const second = await claim(it, owner, 'acme.example')
  prove(it, second)
  await it.settle(15_000)
  assert.equal((await it.cloud.get(owner, domain, second.id)).status.state, 'verified')
  assert.equal((await it.cloud.get(squatter, domain, first.id)).status.state, 'pending')
  prove(it, first)
  await it.settle(15_000)
  assert.match((await it.cloud.get(squatter, domain, first.id)).status.message ?? '', /another tenant/)
  const third = (await it.tenant('late')).caller
  await assert.rejects(claim(it, third, 'acme.example'), (error: unknown) =>
    isCloudError(error, 'already_exists'),
  )
})

test('an ACME authority signs once it saw the answer at the hostname', async () => {
  await using it = await testCloud()
  const { id, caller } = await it.tenant('acme')
  await it.cloud.act(it.admin, 'test', (verbs) => verbs.addDomain(id, 'acme.example'))
  const early = await certify(it, caller, 'early.acme.example', 'acme')
  await it.cloud.settle(0)
  const seen = await it.cloud.get(caller, certificate, early.id)
  assert.match(String(seen.status.message), /no ACME authority is set up/)
  await setUp(it)
  await it.settle(60_000)
  const made = await it.cloud.get(caller, certificate, early.id)
  assert.equal(made.status.state, 'issued', String(made.status.message))
  assert.deepEqual(it.front.certificates.get(early.id)?.challenges, [])
  const events = await it.cloud.records(caller, { stream: 'event', subject: early.id })
  assert.deepEqual(
    events.records.map((one) => one.what),
    ['certificate.failed', 'certificate.issued'],
  )
})

test('what failed for long is tried at once when an administrator set up what it lacked', async () => {
  await using it = await testCloud()
  const { id, caller } = await it.tenant('acme')
  await it.cloud.act(it.admin, 'test', (verbs) => verbs.addDomain(id, 'acme.example'))
  const { id: made } = await certify(it, caller, 'www.acme.example', 'acme')
  const state = async () => (await it.cloud.get(caller, certificate, made)).status
  await it.settle(DAY_MS)
  assert.match((await state()).message ?? '', /no ACME authority is set up.*tried again in 60 min/)
  await setUp(it, { challenge: 'dns-01' })
  assert.match((await state()).message ?? '', /needs the Cloudflare token.*tried again in 60 min/)
  await it.cloud.act(it.admin, 'test', (verbs) =>
    verbs.putProvider({
      ...PROVIDER,
      cloudflareToken: 'cf-token',
    }),
  )
  await it.settle()
  assert.equal((await state()).state, 'issued')
})

test('dns-01 is answered in the zone of the provider, and needs its token', async () => {
  await using it = await testCloud()
  const { id, caller } = await it.tenant('acme')
  await it.cloud.act(it.admin, 'test', (verbs) => verbs.addDomain(id, 'acme.example'))
  await setUp(it, { challenge: 'dns-01' })
  const made = await certify(it, caller, 'www.acme.example', 'acme')
  await it.cloud.settle(0)
  const lacking = await it.cloud.get(caller, certificate, made.id)
  assert.match(lacking.status.message ?? '', /needs the Cloudflare token/)
  await it.cloud.act(it.admin, 'test', (verbs) =>
    verbs.putProvider({
      ...PROVIDER,
      cloudflareToken: 'cf-token',
    }),
  )
  await it.settle(60_000)
  assert.equal((await it.cloud.get(caller, certificate, made.id)).status.state, 'issued')
  assert.deepEqual(it.world.records.get('_acme-challenge.www.acme.example'), [])
})

test('a renewal that fails leaves the certificate in force, and says when it is tried next', async () => {
  let down = false
  await using it = await testCloud({
    fault: (verb) => {
      if (down && verb === 'world.issue') throw new Error('the authority is down')
    },
  })
  const { id, caller } = await it.tenant('acme')
  await it.cloud.act(it.admin, 'test', (verbs) => verbs.addDomain(id, 'acme.example'))
  await setUp(it)
  const { id: made } = await certify(it, caller, 'acme.example', 'acme')
  await it.settle()
  const first = it.front.certificates.get(made)?.issued?.chain
  down = true
  await it.settle(61 * DAY_MS)
  const late = await it.cloud.get(caller, certificate, made)
  assert.equal(late.status.state, 'issued')
  assert.match(late.status.message ?? '', /not renewed: the authority is down; tried again in 60 min/)
  assert.equal(it.front.certificates.get(made)?.issued?.chain, first)
  down = false
  await it.settle(DAY_MS)
  const renewed = await it.cloud.get(caller, certificate, made)
  assert.deepEqual([renewed.status.state, renewed.status.message], ['issued', undefined])
  assert.notEqual(it.front.certificates.get(made)?.issued?.chain, first)
})

test('a given certificate is checked whole before it is taken, and its end is told', async () => {
  await using it = await testCloud()
  const { id, caller } = await it.tenant('acme')
  await it.cloud.act(it.admin, 'test', (verbs) => verbs.addDomain(id, 'acme.example'))
  const [{ chain, key }, other] = [await it.sign('acme.example'), await it.sign('other.example')]
  const give = async (spec: Partial<Certificate['spec']>): Promise<Certificate> =>
    await it.cloud.act(caller, 'test', (verbs) =>
      verbs.createCertificate({
        name: 'own',
        spec: { names: ['acme.example'], source: 'given', chain, key, ...spec },
      }),
    )
  for (const [wrong, message] of [
    [{ chain: 'x' }, /spec.chain|no certificate/],
    [{ key: 'x' }, /no unencrypted private key/],
    [{ key: other.key }, /not the key of the certificate/],
    [{ chain: other.chain, key: other.key }, /not for acme.example/],
    [{ names: ['elsewhere.example'] }, /below no domain/],
    [{ source: 'internal' }, /only for the source given/],
  ] as readonly (readonly [Partial<Certificate['spec']>, RegExp])[])
    await assert.rejects(
      give(wrong),
      (error: unknown) => isCloudError(error, 'invalid') && message.test(error.message),
      String(message),
    )
  const made = await give({})
  await it.settle()
  assert.equal(it.front.certificates.get(made.id)?.issued?.chain, chain)
  await it.settle(91 * DAY_MS)
  const ended = await it.cloud.get(caller, certificate, made.id)
  assert.deepEqual([ended.status.state, ended.status.message], ['error', 'it has expired: give a new one'])
})
