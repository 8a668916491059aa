import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { DiskImagesDriver } from '#cloud/compute/disk-images.driver.ts'
import type { CloudflareDriver } from '#cloud/edge/cloudflare.driver.ts'
import type { FrontDriver } from '#cloud/edge/front.driver.ts'
import type { AcmeDriver, CertificateIssuer, TxtRecords } from '#cloud/edge/issuer.driver.ts'
import type { NamesDriver } from '#cloud/edge/names.driver.ts'
import type { MailDriver } from '#cloud/identity/mail.driver.ts'
import { KINDS } from '#cloud/kinds.ts'
import { COMPUTE_CASES } from './stuck.compute.testing.ts'
import { EDGE_CASES } from './stuck.edge.testing.ts'
import { MAIL_CASES } from './stuck.mail.testing.ts'
import { NETWORK_CASES } from './stuck.network.testing.ts'
import { failedVerbs, getStuck } from './stuck.testing.ts'
import { STORAGE_CASES } from './stuck.storage.testing.ts'
import { TRUST_CASES } from './stuck.trust.testing.ts'

const PAGES = join(import.meta.dirname, '../docs/states')
const CASES = [
  ...NETWORK_CASES,
  ...COMPUTE_CASES,
  ...EDGE_CASES,
  ...TRUST_CASES,
  ...STORAGE_CASES,
  ...MAIL_CASES,
]

/** Kinds and states in which nothing can be made to hang, and why. May only shrink. */
const CANNOT_HANG: Readonly<Record<string, string>> = {
  'route-table-deleting': 'nothing refers to a route table, so it is gone at the first look',
  'elastic-ip-allocated': 'nothing is made of it until it is associated',
  'nat-gateway-pending': 'it turns failed when it takes too long',
  'nat-gateway-active': 'the same',
  'zone-pending': 'the same',
  'zone-active': 'the same',
  'record-deleting': 'nothing refers to a record, so it is gone at the first look',
  'peering-pending': 'the same',
  'peering-active': 'the same',
  'peering-pending-acceptance': 'it waits for a person, and nothing is made of it',
  'peering-rejected': 'nothing is made of it',
  'domain-verified': 'one that was verified stays so and is not looked at again',
  'acme-deleting': 'nothing refers to it, so it is gone at the first look',
  'message-sent': 'nothing is to be done with it any more',
  'replica-paused': 'nothing is on its way: it rests until it is resumed',
  'replica-stopped': 'nothing is on its way: it rests until it is started',
  'replica-succeeded': 'ended as its program wished; its workload tells of it',
}

type Verbs<D> = { readonly [K in keyof D as D[K] extends (...args: never[]) => unknown ? K : never]: true }
const front: Verbs<FrontDriver> = {
  missing: true,
  apply: true,
  remove: true,
  applyCertificate: true,
  removeCertificate: true,
  list: true,
  traffic: true,
  open: true,
  health: true,
  accesses: true,
}
const images: Verbs<DiskImagesDriver> = {
  receive: true,
  fetch: true,
  observe: true,
  remove: true,
  list: true,
}
const mail: Verbs<MailDriver> = { send: true, observe: true, forget: true }
const world: Verbs<AcmeDriver & TxtRecords & NamesDriver & CloudflareDriver> = {
  register: true,
  issue: true,
  put: true,
  remove: true,
  txt: true,
  tunnel: true,
  configure: true,
  point: true,
  unpoint: true,
}
const issuer: Verbs<CertificateIssuer> = { issue: true }
/** Of the drivers that no simulated history fails; a new verb does not compile until it stands here. */
const DRIVERS = { front, images, mail, world, issuer }
/** Verbs that no case makes fail. May only shrink. */
const UNTRIED: readonly string[] = [
  'front.missing',
  'front.traffic',
  'front.open',
  'front.health',
  'front.accesses',
  'images.receive',
  'images.list',
  'world.put',
  'world.remove',
]

for (const it of CASES)
  test(`${it.kind} ${it.state}: ${it.title}`, async () => {
    await getStuck(it)
  })

const states = KINDS.flatMap((kind) => Object.keys(kind.states).map((state) => `${kind.name}-${state}`))

test('every state of every kind was made to hang', () => {
  const tried = new Set(CASES.map((it) => `${it.kind}-${it.state}`))
  assert.deepEqual(
    states.filter((it) => !tried.has(it) && !(it in CANNOT_HANG)),
    [],
    'add a case to src/stuck.*.testing.ts',
  )
  assert.deepEqual(
    Object.keys(CANNOT_HANG).filter((it) => tried.has(it) || !states.includes(it)),
    [],
  )
})

test('every verb of a driver that no history fails was made to fail', () => {
  const verbs = Object.entries(DRIVERS).flatMap(([name, of]) => Object.keys(of).map((it) => `${name}.${it}`))
  assert.deepEqual(
    verbs.filter((it) => !failedVerbs.has(it)),
    UNTRIED,
    'add a case to src/stuck.*.testing.ts, or take it from UNTRIED',
  )
})

test('every state has a page, and every page a state and a line in the index', () => {
  const pages = readdirSync(PAGES).filter((it) => it !== 'README.md')
  assert.deepEqual(pages.toSorted(), states.map((it) => `${it}.md`).toSorted())
  const index = readFileSync(join(PAGES, 'README.md'), 'utf8')
  for (const page of pages) {
    assert.ok(index.includes(`(${page})`), `docs/states/README.md does not name ${page}`)
    const text = readFileSync(join(PAGES, page), 'utf8')
    for (const title of ['What it means', 'How you see it', 'What causes it', 'What to do'])
      assert.ok(text.includes(`## ${title}`), `${page} does not say: ${title}`)
    for (const [, link = ''] of text.matchAll(/\]\(([^)#]+\.md)/g))
      assert.ok(existsSync(join(PAGES, link)), `${page} leads to ${link}, which is not there`)
  }
})
