import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { createIds } from '#lib/ids.ts'
import { systemClock } from '#lib/clock.ts'
import type { DiskImagesDriver, SeenDiskImage } from './disk-images.driver.ts'

const WAIT_MS_MAX = 10_000
const never = new AbortController().signal

/** Looks until it is as wanted. */
export async function seenAs<S extends SeenDiskImage['state']>(
  driver: Pick<DiskImagesDriver, 'observe'>,
  id: string,
  state: S,
): Promise<Extract<SeenDiskImage, { state: S }>> {
  const until = Date.now() + WAIT_MS_MAX
  for (;;) {
    const seen = await driver.observe(id, never)
    if (seen?.state === state) return seen as Extract<SeenDiskImage, { state: S }>
    assert.ok(Date.now() < until, `it is ${JSON.stringify(seen)} and not ${state}`)
    await new Promise((wake) => setTimeout(wake, 5))
  }
}

/** What every driver of disk images keeps; `urlOf` gives an address that a raw image can be fetched from. */
export function diskImagesConformance(
  name: string,
  open: () => Promise<{ driver: DiskImagesDriver; urlOf(): string } & AsyncDisposable>,
): void {
  const ids = createIds(systemClock)

  test(`${name}: what a stream brings is there, once, until it is removed`, async () => {
    await using it = await open()
    const { driver } = it
    const [id, other] = [ids.next(), ids.next()]
    const bytes = randomBytes(200_000)
    assert.equal(await driver.observe(id, never), undefined)
    const content = await driver.receive(id, { format: 'raw' }, Readable.from([bytes]))
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    assert.deepEqual(content, { format: 'raw', sizeBytes: bytes.length, sha256 })
    assert.deepEqual(await driver.observe(id, never), { state: 'present', content })
    assert.equal(await driver.observe(other, never), undefined)
    assert.deepEqual(await driver.list(never), [id])
    await assert.rejects(driver.receive(id, { format: 'raw' }, Readable.from([bytes])), {
      code: 'conflict',
    })
    await driver.remove(id, never)
    await driver.remove(id, never)
    assert.equal(await driver.observe(id, never), undefined)
    assert.deepEqual(await driver.list(never), [])
  })

  test(`${name}: nothing is left of a stream that breaks or brings nothing`, async () => {
    await using it = await open()
    const { driver } = it
    const id = ids.next()
    const broken = async function* (): AsyncGenerator<Buffer> {
      yield randomBytes(100_000)
      throw new Error('it broke')
    }
    const raw = { format: 'raw' } as const
    await assert.rejects(driver.receive(id, raw, Readable.from(broken())), /it broke/)
    await assert.rejects(driver.receive(id, raw, Readable.from([])), { code: 'invalid' })
    assert.deepEqual(await driver.list(never), [])
    assert.equal(await driver.observe(id, never), undefined)
    await driver.receive(id, raw, Readable.from([Buffer.from('a')]))
  })

  test(`${name}: what is fetched comes by itself, and asking again changes nothing`, async () => {
    await using it = await open()
    const { driver } = it
    const wish = { id: ids.next(), url: it.urlOf(), format: 'raw' } as const
    await driver.fetch(wish, never)
    await driver.fetch(wish, never)
    const { content } = await seenAs(driver, wish.id, 'present')
    assert.ok(content.sizeBytes > 0)
    await driver.fetch(wish, never)
    assert.deepEqual(await driver.observe(wish.id, never), { state: 'present', content })
    assert.deepEqual(await driver.list(never), [wish.id])
    await driver.remove(wish.id, never)
    assert.deepEqual(await driver.list(never), [])
  })
}
