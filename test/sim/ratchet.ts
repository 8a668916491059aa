import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ComputeDriver } from '#cloud/compute/compute.driver.ts'
import type { SocketsDriver } from '#cloud/inside/sockets.driver.ts'
import type { EdgeDriver } from '#cloud/edge/edge.driver.ts'
import type { NetworkDriver } from '#cloud/network/network.driver.ts'

const audited = { audit: true, mend: true } as const
type Verbs<D> = { readonly [K in keyof D as D[K] extends (...args: never[]) => unknown ? K : never]: true }

// Every verb of every driver that the cloud has; a new one does not compile until it stands here.
const compute: Verbs<ComputeDriver> = {
  missing: true,
  prepare: true,
  apply: true,
  observe: true,
  list: true,
  remove: true,
  applyVolume: true,
  observeVolume: true,
  removeVolume: true,
  volumes: true,
  observeImage: true,
  fetchImage: true,
  samples: true,
  logs: true,
  exec: true,
  events: true,
  purge: true,
  ...audited,
}
const network: Verbs<NetworkDriver> = {
  missing: true,
  listening: true,
  applyHost: true,
  apply: true,
  observe: true,
  list: true,
  remove: true,
  purge: true,
  ...audited,
}
const edge: Verbs<EdgeDriver> = { apply: true, remove: true, list: true, ...audited }
const sockets: Verbs<SocketsDriver> = { ensure: true, remove: true, list: true }
const DRIVERS: Readonly<Record<string, Readonly<Record<string, true>>>> = { compute, network, edge, sockets }

const ROOT = join(import.meta.dirname, '../..')
const UNTRIED = join(import.meta.dirname, 'untried.json')
const HOW = { before: 'fails', after: 'is done and its answer lost' } as const

/** Every place of the cloud that calls a verb, each failing in both ways; a verb that is called nowhere stands for itself. */
function allCalls(): string[] {
  const files = globSync('src/cloud/**/*.ts', { cwd: ROOT }).filter(
    (file) => !/\.(test|testing|conformance)\.ts$/.test(file),
  )
  const texts = files.map((file) => ({ file, text: readFileSync(join(ROOT, file), 'utf8') }))
  return Object.entries(DRIVERS).flatMap(([driver, verbs]) =>
    Object.keys(verbs).flatMap((verb) => {
      // By its own name, or as one of all drivers.
      const call = new RegExp(
        `\\b${driver}\\.${verb}\\(|\\bdriver\\.${verb}\\(|\\bdrivers\\[\\w+\\]\\.${verb}\\(`,
      )
      const places = texts.filter(({ text }) => call.test(text)).map(({ file }) => file.slice('src/'.length))
      return (places.length ? places : ['nowhere in the cloud']).flatMap((place) =>
        Object.values(HOW).map((how) => `${driver}.${verb} called in ${place} ${how}`),
      )
    }),
  )
}

/**
 * A list that may only shrink: what it names must be untried, and what is untried must stand in it. Those in `rare` are
 * met by some draws only and have a test of their own; they count neither way.
 */
export function onlyShrinks(file: string, list: string, untried: readonly string[]): void {
  const lists = JSON.parse(readFileSync(file, 'utf8')) as Record<string, readonly string[]>
  const { [list]: known = [], rare = [] } = lists
  const now = new Set(untried)
  const fresh = untried.filter((it) => !known.includes(it) && !rare.includes(it)).toSorted()
  const stale = known.filter((it) => !now.has(it)).toSorted()
  assert.deepEqual(fresh, [], `no test makes these fail; write one`)
  assert.deepEqual(stale, [], `these are tried now; remove them from ${list} in ${file}`)
}

/** Calls that none of the troubles, as `<driver>.<verb> <trouble> <place>`, made fail. */
function untriedBy(troubles: readonly string[]): string[] {
  const tried = new Set(
    troubles.map((it) => {
      const [verb, trouble, place] = it.split(' ')
      return `${verb} called in ${place} ${HOW[trouble as keyof typeof HOW]}`
    }),
  )
  return allCalls().filter((it) => !tried.has(it))
}

/** Of the calls that these troubles left untried those that no list names. */
export function freshOf(troubles: readonly string[]): string[] {
  const { verbs = [], rare = [] } = JSON.parse(readFileSync(UNTRIED, 'utf8')) as Record<string, string[]>
  return untriedBy(troubles).filter((it) => !verbs.includes(it) && !rare.includes(it))
}

/** `troubles` are those that histories met with, as `<driver>.<verb> <trouble> <place>`. */
export const ratchet = (troubles: readonly string[]): void =>
  onlyShrinks(UNTRIED, 'verbs', untriedBy(troubles))
