import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { systemClock } from '#lib/clock.ts'
import { folderLayout, machineLayout } from './layout.ts'
import { purgeFolder, removeFolders } from './purge.ts'

const root = mkdtempSync(join(tmpdir(), 'arcus-purge-'))
after(() => rmSync(root, { recursive: true }))

function folderWith(name: string, ...files: string[]): string {
  const folder = join(root, name)
  for (const it of files) {
    mkdirSync(join(folder, dirname(it)), { recursive: true })
    writeFileSync(join(folder, it), '')
  }
  return folder
}

test('a purge removes the folders of a cloud and nothing that was there beside them', () => {
  const said: string[] = []
  const own = ['cloud/arcus.sqlite', 'cloud/tls/key', 'agent/epoch', 'edge/seal.key', 'cloud.restoring/a']
  const mine = folderWith('own', ...own, 'run/cloud.pid', 'log/cloud.log', 'cache/cloud/a', 'program/a/b')
  removeFolders(folderLayout(mine), (line) => said.push(line))
  assert.deepEqual([existsSync(mine), said], [false, []])
  const disk = folderWith('disk', ...own, 'backups/arcus.tar', 'log/of-others')
  const machine = { ...machineLayout(disk), run: join(root, 'r'), logs: join(root, 'l') }
  const layout = { ...machine, cache: join(root, 'c'), programs: join(root, 'p') }
  for (const _ of [1, 2]) removeFolders(layout, (line) => said.push(line))
  assert.deepEqual(readdirSync(disk).toSorted(), ['backups', 'log'])
  assert.match(said[0] ?? '', /disk stays.*: backups, log$/)
  const single = folderWith('single', 'arcus.sqlite', 'master.key', 'images/a')
  removeFolders(folderLayout(single), () => {})
  assert.equal(existsSync(single), false)
})

test('a purge of a folder without a cloud removes nothing', async () => {
  const home = folderWith('home', 'photos/one', 'log/two')
  const said: string[] = []
  const say = (line: string): void => void said.push(line)
  await purgeFolder({ layout: folderLayout(home), settings: {}, say, clock: systemClock })
  assert.deepEqual(readdirSync(home).toSorted(), ['log', 'photos'])
  assert.match(said.join(), /There is no cloud in .*home/)
})
