import { execFileSync } from 'node:child_process'
import assert from 'node:assert/strict'
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import fc from 'fast-check'
import type { InsideFile } from '#cloud/compute/compute.driver.ts'
import { mountsOf, openInstances } from './instances.ts'
import { testWish } from './wish.testing.ts'

const { id } = testWish()
const self = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }

async function world(t: TestContext, owner = self) {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-instances-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const [sockets, files] = [join(folder, 'sockets'), join(folder, 'inside')]
  return { folder, sockets, files, instances: await openInstances({ sockets, owner, files }) }
}

const file = (name: string, text: string, more: Partial<InsideFile> = {}): InsideFile => ({
  name,
  content: Buffer.from(text).toString('base64'),
  mode: 0o444,
  ...self,
  ...more,
})

test('the folder of a socket is one that everyone inside may look into and nobody outside reaches', async (t) => {
  const { sockets, instances } = await world(t)
  await instances.prepare(id)
  await instances.prepare(id)
  assert.equal((await stat(join(sockets, id))).mode & 0o7777, 0o755)
  assert.equal((await stat(sockets)).mode & 0o7777, 0o750)
  // As after a restart of the machine.
  await rm(sockets, { recursive: true })
  await instances.prepare(id)
  assert.equal((await stat(sockets)).mode & 0o7777, 0o750)
})

test('the folder belongs to the cloud, what it lies in does not', { skip: self.uid !== 0 }, async (t) => {
  const { sockets, instances } = await world(t, { uid: 1234, gid: 4321 })
  await instances.prepare(id)
  const [all, one] = [await stat(sockets), await stat(join(sockets, id))]
  assert.deepEqual([all.uid, all.gid, one.uid, one.gid], [0, 4321, 1234, 4321])
})

test(
  'the cloud makes a socket in the folder, and nothing beside it or in its place',
  { skip: self.uid !== 0 },
  async (t) => {
    const { folder, sockets, instances } = await world(t, { uid: 1234, gid: 4321 })
    await chmod(folder, 0o711)
    await instances.prepare(id)
    const script = `
      const { mkdirSync, renameSync, rmdirSync, symlinkSync, readdirSync } = require('node:fs')
      const [all, own] = process.argv.slice(1)
      const tried = [() => mkdirSync(all + '/x'), () => symlinkSync('/etc', all + '/y'), () => rmdirSync(own),
        () => renameSync(own, all + '/z')].filter((it) => { try { it(); return true } catch { return false } })
      require('node:net').createServer().listen(own + '/api.sock', () => {
        console.log(JSON.stringify([tried.length, readdirSync(all)]))
        process.exit()
      })`
    const as = ['--reuid=1234', '--regid=4321', '--clear-groups', process.execPath, '-e', script]
    const seen = execFileSync('setpriv', [...as, sockets, join(sockets, id)], { encoding: 'utf8' })
    assert.deepEqual(JSON.parse(seen), [0, [id]])
    const stranger = ['--reuid=1235', '--regid=1235', '--clear-groups', 'ls', join(sockets, id)]
    assert.throws(() => execFileSync('setpriv', stranger, { stdio: 'pipe' }), /Permission denied/)
  },
)

test('a link or a file in the place of the folder is refused and left as it is', async (t) => {
  const { folder, sockets, instances } = await world(t)
  const elsewhere = join(folder, 'elsewhere')
  await mkdir(elsewhere)
  await chmod(elsewhere, 0o700)
  await symlink(elsewhere, join(sockets, id))
  await assert.rejects(instances.prepare(id), { code: 'conflict' })
  assert.equal((await stat(elsewhere)).mode & 0o7777, 0o700)
  await rm(join(sockets, id))
  await writeFile(join(sockets, id), '')
  await assert.rejects(instances.prepare(id), { code: 'conflict' })
  await assert.rejects(instances.prepare('../elsewhere'), { code: 'invalid' })
})

test('removing follows no link that the cloud put there', async (t) => {
  const { folder, sockets, files, instances } = await world(t)
  const elsewhere = join(folder, 'elsewhere')
  await mkdir(elsewhere)
  await writeFile(join(elsewhere, 'kept'), 'x')
  await instances.prepare(id)
  await instances.write(id, [file('tls/a.pem', 'x')])
  await symlink(elsewhere, join(sockets, id, 'api.sock'))
  await instances.remove(id)
  await instances.remove(id)
  assert.deepEqual(await readdir(elsewhere), ['kept'])
  assert.deepEqual([await readdir(sockets), await readdir(files)], [[], []])
  assert.deepEqual(await instances.list(), [])
})

test('files are as the last wish says, replaced by another file and not written over', async (t) => {
  const { files, instances } = await world(t)
  const at = (name: string): string => join(files, id, name)
  await instances.write(id, [file('variables/a', 'one', { mode: 0o640 }), file('tls/x.pem', 'key')])
  const before = await stat(at('variables/a'))
  assert.equal(before.mode & 0o7777, 0o640)
  await instances.write(id, [file('variables/a', 'one', { mode: 0o640 }), file('metadata/e.json', '{}')])
  assert.equal((await stat(at('variables/a'))).ino, before.ino, 'the same file is written again')
  assert.deepEqual(await readdir(at('tls')), [])
  await instances.write(id, [file('variables/a', 'two', { mode: 0o400 })])
  const after = await stat(at('variables/a'))
  assert.notEqual(after.ino, before.ino)
  assert.equal(after.mode & 0o7777, 0o400)
  assert.equal(await readFile(at('variables/a'), 'utf8'), 'two')
  assert.deepEqual(await readdir(at('variables')), ['a'])
  assert.deepEqual(await readdir(files), [id])
})

test('a file that is mounted by itself stays the same file', async (t) => {
  const { files, instances } = await world(t)
  const at = join(files, id, 'variables/a')
  await instances.write(id, [file('variables/a', 'a long one', { at: '/etc/a' })])
  const { ino } = await lstat(at)
  await instances.write(id, [file('variables/a', 'new', { at: '/etc/a' })])
  assert.equal((await lstat(at)).ino, ino)
  assert.equal(await readFile(at, 'utf8'), 'new')
})

test('only the folders of the replica are ever mounted, whatever it is called', () => {
  const folders = { sockets: '/run/arcus/instances', files: '/var/lib/arcus/inside' }
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.uuid()), (it) => {
      let mounts
      try {
        mounts = mountsOf(folders, it, [])
      } catch {
        return
      }
      assert.deepEqual(
        mounts.map((one) => one.source),
        [`/var/lib/arcus/inside/${it.toLowerCase()}`, `/run/arcus/instances/${it.toLowerCase()}`],
      )
      assert.match(it, /^[0-9a-f-]{36}$/i)
    }),
  )
})
