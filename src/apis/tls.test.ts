import assert from 'node:assert/strict'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, stat, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { simulatedClock, systemClock } from '#lib/clock.ts'
import { ensureCertificate, ensureCertificateApart } from './tls.ts'

const DAY_MS = 86_400_000

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-tls-'))
  try {
    await work(join(folder, 'tls'))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

test('a certificate of an authority of its own, for every name, made once', async () => {
  await inFolder(async (folder) => {
    const clock = simulatedClock()
    const names = ['circloud.localhost', 'myhost', '192.0.2.7']
    const made = await ensureCertificate({ folder, names, clock })
    const cert = new X509Certificate(made.cert)
    const authority = new X509Certificate(await readFile(made.authorityFile, 'utf8'))
    assert.ok(cert.checkIssued(authority) && cert.verify(authority.publicKey) && authority.ca && !cert.ca)
    assert.ok(cert.checkPrivateKey(createPrivateKey(made.key)))
    for (const name of ['localhost', 'circloud.localhost', 'myhost']) assert.equal(cert.checkHost(name), name)
    for (const address of ['127.0.0.1', '192.0.2.7']) assert.equal(cert.checkIP(address), address)
    for (const file of ['ca.key', 'server.key'])
      assert.equal((await stat(join(folder, file))).mode & 0o777, 0o600)
    assert.equal((await stat(folder)).mode & 0o777, 0o700)
    assert.deepEqual(await ensureCertificate({ folder, names: names.toReversed(), clock }), made)
  })
})

test('it is made anew near its end, for other names and when torn; the authority stays', async () => {
  await inFolder(async (folder) => {
    const clock = simulatedClock()
    const first = await ensureCertificate({ folder, names: [], clock })
    const authority = await readFile(first.authorityFile, 'utf8')
    const named = await ensureCertificate({ folder, names: ['a.example'], clock })
    assert.notEqual(named.cert, first.cert)
    await writeFile(join(folder, 'server.key'), first.key)
    const mended = await ensureCertificate({ folder, names: ['a.example'], clock })
    assert.ok(new X509Certificate(mended.cert).checkPrivateKey(createPrivateKey(mended.key)))
    await clock.advance(360 * DAY_MS)
    assert.deepEqual(await ensureCertificate({ folder, names: ['a.example'], clock }), mended)
    await clock.advance(10 * DAY_MS)
    const renewed = await ensureCertificate({ folder, names: ['a.example'], clock })
    assert.ok(new X509Certificate(renewed.cert).validToDate.getTime() > clock.now() + 390 * DAY_MS)
    assert.equal(await readFile(first.authorityFile, 'utf8'), authority)
    await clock.advance(3300 * DAY_MS)
    await ensureCertificate({ folder, names: ['a.example'], clock })
    assert.notEqual(await readFile(first.authorityFile, 'utf8'), authority)
  })
})

test('a certificate the operator put there is used as it is', async () => {
  await inFolder(async (folder) => {
    await inFolder(async (elsewhere) => {
      const clock = simulatedClock()
      const own = await ensureCertificate({ folder: elsewhere, names: ['cloud.example'], clock })
      await ensureCertificate({ folder, names: [], clock })
      await writeFile(join(folder, 'server.crt'), own.cert)
      await writeFile(join(folder, 'server.key'), own.key)
      const used = await ensureCertificate({ folder, names: [], clock })
      assert.deepEqual([used.cert, used.key], [own.cert, own.key])
      await unlink(join(folder, 'ca.crt'))
      assert.equal((await ensureCertificate({ folder, names: [], clock })).cert, own.cert)
    })
  })
})

test('made by a process of its own it is the same, and why it could not be is told', async () => {
  await inFolder(async (folder) => {
    const options = { folder, names: ['a.example'], clock: systemClock }
    const made = await ensureCertificateApart(options)
    assert.equal(new X509Certificate(made.cert).checkHost('a.example'), 'a.example')
    assert.deepEqual(await ensureCertificate(options), made)
    await unlink(join(folder, 'server.crt'))
    await mkdir(join(folder, 'server.key.new'))
    await assert.rejects(ensureCertificateApart(options), /: EISDIR: .*server\.key\.new/)
  })
})
