import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { SMTPServer } from 'smtp-server'
import { openAuthority } from '#lib/authority.ts'
import { systemClock } from '#lib/clock.ts'
import type { Mail, Relay, SeenMail } from '#cloud/identity/mail.driver.ts'
import { internalIssuer } from '#drivers/issuer/internal.ts'
import { smtpMail } from './smtp.ts'

const MAIL: Mail = { id: 'abc', to: 'ann@example.com', subject: 'Grüße', text: 'A token:\n\n.\nthe end\n' }
const LOGIN = { user: 'arcus', password: 'very secret' }
const CLEAR = { tls: 'none', from: 'cloud@example.com' } as const
const WAIT_MS_MAX = 20_000

type Options = NonNullable<ConstructorParameters<typeof SMTPServer>[0]>
let folder = ''
let trust = ''
let keys: { key: string; cert: string }
const servers: SMTPServer[] = []

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'arcus-mail-'))
  const authority = openAuthority({ folder, clock: systemClock })
  const signal = AbortSignal.timeout(WAIT_MS_MAX)
  const { chain, key } = await internalIssuer(authority).issue(['localhost'], signal)
  keys = { cert: chain, key }
  trust = (await authority.current()).cert
})
after(async () => {
  for (const it of servers) it.close()
  await rm(folder, { recursive: true })
})

/** A server on a port of its own, with what it took. */
async function serving(options: Options = {}) {
  const taken: string[] = []
  const server = new SMTPServer({
    authOptional: true,
    ...keys,
    onAuth({ username, password }, _session, done) {
      if (username === LOGIN.user && password === LOGIN.password) done(null, { user: username })
      else done(new Error('wrong password'))
    },
    onData(stream, _session, done) {
      const chunks: Buffer[] = []
      stream.on('data', (chunk: Buffer) => chunks.push(chunk))
      stream.on('end', () => {
        taken.push(Buffer.concat(chunks).toString())
        done()
      })
    },
    ...options,
  })
  servers.push(server)
  // What a client does wrong is told here as well.
  server.on('error', () => {})
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  return { taken, port: (server.server.address() as AddressInfo).port, host: 'localhost' }
}

async function send(relay: Relay): Promise<SeenMail> {
  const mail = smtpMail()
  await mail.send(relay, MAIL)
  const end = Date.now() + WAIT_MS_MAX
  for (;;) {
    const seen = await mail.observe(MAIL.id)
    if (seen && seen.state !== 'sending') return seen
    assert.ok(Date.now() < end, 'it does not come to an end')
    await sleep(10)
  }
}

async function refused(relay: Relay): Promise<Extract<SeenMail, { state: 'failed' }>> {
  const seen = await send(relay)
  assert.equal(seen.state, 'failed')
  assert.doesNotMatch(seen.state === 'failed' ? seen.message : '', /very secret|another/)
  return seen as Extract<SeenMail, { state: 'failed' }>
}

test('a mail arrives with its text, over TLS of both kinds and in the clear', async () => {
  for (const [tls, options] of [
    ['none', { hideSTARTTLS: true, disabledCommands: ['AUTH'] }],
    ['starttls', {}],
    ['implicit', { secure: true }],
  ] as const) {
    const { taken, ...at } = await serving({
      ...options,
      disabledCommands: [...((options as Options).disabledCommands ?? [])],
    })
    const login = tls === 'none' ? {} : { login: LOGIN, trust }
    assert.deepEqual(await send({ ...CLEAR, ...at, tls, ...login }), { state: 'sent' })
    const [text = ''] = taken
    assert.match(text, /^From: cloud@example\.com\r\nTo: ann@example\.com\r\nSubject: =\?UTF-8\?/)
    assert.match(text, /^Message-ID: <abc@example\.com>\r$/m)
    assert.match(text, /\r\n\r\nA token:\r\n\r\n\.\r\nthe end\r\n/)
  }
})

test('a wrong password is final, and not told', async () => {
  const { taken: _, ...at } = await serving()
  const login = { user: LOGIN.user, password: 'another' }
  const seen = await refused({ ...CLEAR, ...at, tls: 'starttls', login, trust })
  assert.equal(seen.final, true)
  assert.match(seen.message, /^localhost:\d+: .*535/)
})

test('who is not known is final, a server that is busy is not', async () => {
  const answer = (responseCode: number): Options => ({
    onRcptTo: (_address, _session, done) => done(Object.assign(new Error('not now'), { responseCode })),
  })
  for (const [code, final] of [
    [550, true],
    [451, false],
  ] as const) {
    const { taken: _, ...at } = await serving(answer(code))
    const seen = await refused({ ...CLEAR, ...at })
    assert.deepEqual([seen.final, seen.message.includes('not now')], [final, true])
  }
})

test('no password goes to a server without TLS, nor to one that nobody vouches for', async () => {
  const heard: string[] = []
  const options: Options = {
    hideSTARTTLS: true,
    allowInsecureAuth: true,
    disabledCommands: ['STARTTLS'],
    onAuth: ({ password = '' }, _session, done) => {
      heard.push(String(password))
      done(new Error('no'))
    },
  }
  const plain = await serving(options)
  const login = { tls: 'starttls', login: LOGIN } as const
  assert.equal((await refused({ ...CLEAR, ...plain, ...login, trust })).final, false)
  const strange = await serving()
  assert.match((await refused({ ...CLEAR, ...strange, ...login })).message, /certificate/)
  assert.deepEqual([heard, plain.taken, strange.taken], [[], [], []])
})

test('a server that is away is said so, and may be tried again', async () => {
  const { port } = await serving()
  servers.pop()?.close()
  const seen = await refused({ ...CLEAR, host: '127.0.0.1', port })
  assert.equal(seen.final, false)
  assert.match(seen.message, /ECONNREFUSED/)
})
