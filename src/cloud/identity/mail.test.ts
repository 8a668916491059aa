import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type TestCloud, testCloud, testOrigin } from '#cloud/cloud.testing.ts'
import { ALL } from '#engine/resource.ts'
import { mailRelay } from './mail-relay.kind.ts'
import type { SeenMail } from './mail.driver.ts'
import { message, type Message } from './message.kind.ts'
import { MAIL_TRIES_MAX, planMessage } from './message.reconcile.ts'

const RELAY = { host: 'mail.example', username: 'arcus', password: 'very secret', from: 'cloud@example.com' }
const ANN = { email: 'ann@example.com', password: 'correct horse', name: 'Ann' }
const HOUR_MS = 3_600_000
const REFUSED: SeenMail = { state: 'failed', message: '421 busy', final: false }

async function world() {
  const it = await testCloud()
  await it.cloud.accounts.register(ANN, testOrigin)
  const act = async <R>(work: Parameters<typeof it.cloud.act<R>>[2]): Promise<R> =>
    await it.cloud.act(it.admin, 'test', work)
  return {
    it,
    relay: async (more: object = {}) =>
      await act(
        async (verbs) => await verbs.create(mailRelay, { name: 'relay', spec: { ...RELAY, ...more } }),
      ),
    change: async (id: string, spec: object) =>
      await act(async (verbs) => await verbs.patch(mailRelay, id, { spec })),
    remove: async (id: string) => await act(async (verbs) => await verbs.remove(mailRelay, id)),
    forgot: async (email = ANN.email) => await it.cloud.accounts.forgot(email, testOrigin),
    outbox: async () => await outboxOf(it),
    [Symbol.asyncDispose]: async () => await it[Symbol.asyncDispose](),
  }
}

const outboxOf = async (it: TestCloud): Promise<readonly Message[]> =>
  (await it.engine.list(message, { tenant: ALL, deleted: false })).items

test('whatever is seen of it, a message is tried a few times at most and comes to rest', () => {
  const seen = fc.constantFrom<SeenMail | undefined>(
    undefined,
    { state: 'sending' },
    { state: 'sent' },
    REFUSED,
    { ...REFUSED, final: true },
  )
  fc.assert(
    fc.property(fc.array(seen, { maxLength: 40 }), (looks) => {
      let status: Message['status'] = { state: 'waiting' }
      let [now, sends] = [0, 0]
      for (const look of looks) {
        // Nothing is seen of what was never begun.
        const { outcome, send } = planMessage(
          { spec: { to: 'a', subject: 'b', text: 'c', until: HOUR_MS }, status },
          'relay 1',
          sends === 0 ? undefined : look,
          now,
        )
        if (send) sends++
        assert.notEqual(outcome.do, 'gone')
        if (outcome.do === 'gone') return
        status = outcome.status ?? status
        if (outcome.do === 'again') now += outcome.afterMs
        else assert.match(status.state, /^(sent|failed)$/)
        assert.equal(status.tries ?? 0, sends, 'each try is written down')
      }
      assert.ok(sends <= MAIL_TRIES_MAX)
    }),
  )
})

test('a message waits for a relay, and is mailed once there is one', async () => {
  await using w = await world()
  await w.forgot()
  await w.it.settle()
  const [waiting] = await w.outbox()
  assert.equal(waiting?.status.state, 'waiting')
  await w.relay()
  await w.it.settle()
  const [sent] = await w.outbox()
  assert.deepEqual([sent?.status.state, sent?.status.tries], ['sent', 1])
  const [{ relay, mail } = assert.fail('nothing was sent')] = w.it.mail.sent
  assert.deepEqual(relay, {
    host: 'mail.example',
    port: 587,
    tls: 'starttls',
    from: 'cloud@example.com',
    login: { user: 'arcus', password: 'very secret' },
  })
  assert.deepEqual([mail.to, mail.id], [ANN.email, sent?.id])
  const token = /[0-9a-f]{64}/.exec(mail.text)?.[0] ?? ''
  await w.it.cloud.accounts.reset({ token, password: 'another horse' }, testOrigin)
  await w.it.settle(HOUR_MS)
  assert.equal(w.it.mail.sent.length, 1)
})

test('what the relay does not take is tried again, then given up, and anew when the relay is changed', async () => {
  await using w = await world()
  const relay = await w.relay()
  w.it.mail.answer(REFUSED)
  await w.forgot()
  await w.it.settle()
  const [first] = await w.outbox()
  assert.deepEqual(
    [first?.status.state, first?.status.message, first?.status.tries],
    ['sending', '421 busy', 1],
  )
  assert.ok((first?.status.retryAt ?? 0) > w.it.clock.now(), 'says when it is tried again')
  await w.it.settle(HOUR_MS)
  const [failed] = await w.outbox()
  assert.deepEqual([failed?.status.state, failed?.status.tries], ['failed', MAIL_TRIES_MAX])
  assert.equal(failed?.overdue, undefined)
  await w.forgot()
  w.it.mail.answer({ ...REFUSED, final: true })
  await w.it.settle()
  const states = async () => (await w.outbox()).map((it) => it.status.state)
  assert.deepEqual(await states(), ['failed', 'failed'], 'what is final is not tried again')
  w.it.mail.answer()
  await w.change(relay.id, { password: 'the right one' })
  await w.it.settle()
  assert.deepEqual(await states(), ['sent', 'sent'])
  assert.equal(w.it.mail.sent[0]?.relay.login?.password, 'the right one')
})

test('what was on its way when the process ended is sent again, counted as one try more', async () => {
  await using w = await world()
  await w.relay()
  w.it.mail.answer({ state: 'sending' })
  await w.forgot()
  await w.it.settle(100)
  assert.deepEqual((await w.outbox())[0]?.status.tries, 1)
  w.it.mail.restart()
  await w.it.settle(1000)
  const [it] = await w.outbox()
  assert.deepEqual([it?.status.state, it?.status.tries], ['sending', 1])
  assert.match(it?.status.message ?? '', /may have arrived/)
  w.it.mail.answer()
  await w.it.settle(60_000)
  assert.deepEqual([(await w.outbox())[0]?.status.tries, w.it.mail.sent.length], [2, 1])
})

test('without a relay again it waits, and what is of no more use is not sent', async () => {
  await using w = await world()
  const relay = await w.relay()
  w.it.mail.answer(REFUSED)
  await w.forgot()
  await w.it.settle()
  await w.remove(relay.id)
  await w.it.settle()
  assert.equal((await w.outbox())[0]?.status.state, 'waiting')
  await w.it.clock.advance(HOUR_MS)
  w.it.mail.answer()
  await w.relay()
  await w.it.settle()
  assert.equal((await w.outbox())[0]?.status.state, 'failed')
  assert.equal(w.it.mail.sent.length, 0)
})

test('nobody is sent more than a few, and who is unknown is told and noted alike', async () => {
  await using w = await world()
  for (let n = 0; n < 7; n++) await w.forgot()
  assert.equal((await w.outbox()).length, 5)
  await w.forgot('nobody@example.com')
  assert.equal((await w.outbox()).length, 5)
  const { records } = await w.it.cloud.records(w.it.admin, { stream: 'audit' })
  assert.equal(records.filter((it) => it.what === 'user.forgot_password').length, 8)
  await w.it.clock.advance(HOUR_MS)
  await w.forgot()
  assert.equal((await w.outbox()).length, 6)
})

test('a relay’s password is sealed and shown to nobody; none goes in the clear, and there is one relay', async () => {
  await using w = await world()
  const { id } = await w.relay()
  const shown = await w.it.cloud.get(w.it.admin, mailRelay, id)
  assert.ok(!('password' in shown.spec))
  assert.doesNotMatch(JSON.stringify(await w.it.engine.store.get(id)), /very secret/)
  await assert.rejects(w.relay(), /There is a mail relay already/)
  await w.remove(id)
  await w.it.settle()
  await assert.rejects(w.relay({ tls: 'none' }), /need starttls or implicit/)
  await assert.rejects(w.relay({ password: '' }), /goes with a username/)
  const here = await w.relay({ tls: 'none', host: '127.0.0.1' })
  await assert.rejects(w.change(here.id, { host: 'mail.example' }), /need starttls or implicit/)
  const { caller } = await w.it.tenant('acme')
  await assert.rejects(w.it.cloud.get(caller, mailRelay, here.id))
})

test('messages of before mail was sent wait', () => {
  const upgrade = message.upgrades[1] ?? assert.fail('no upgrade')
  const spec = { to: 'a', subject: 'b', text: 'c' }
  assert.deepEqual(upgrade({ spec, status: {} }), { spec, status: { state: 'waiting' } })
})

test('who asks often at once fills no mailbox', async () => {
  await using w = await world()
  await Promise.all(Array.from({ length: 8 }, () => w.forgot()))
  assert.equal((await w.outbox()).length, 5)
})

test('a message whose next try is further ahead than it was put off is tried: the clock was set back', () => {
  const spec = { to: 'a', subject: 'b', text: 'c' }
  const plan = (retryAt: number) =>
    planMessage({ spec, status: { state: 'sending', tries: 2, relay: 'r 1', retryAt } }, 'r 1', REFUSED, 0)
  assert.deepEqual([plan(60_000).send, plan(60_001).send], [undefined, true])
})
