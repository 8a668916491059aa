import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { chown, readdir, rename, rm, rmdir, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { CloudError } from '#lib/errors.ts'
import { readIfThere } from '#lib/files.ts'
import { damageOf, raiseGuard } from '#engine/store.sqlite.copy.ts'
import { lockFolder } from '#engine/store.sqlite.open.ts'
import { unpack } from '#setup/archive.ts'
import {
  agentData,
  cloudData,
  folderLayout,
  type Layout,
  machineLayout,
  restoringData,
} from '#setup/layout.ts'
import { runCommand } from '#setup/main.ts'
import { DEFAULT_DATA, folderOption, parseWords } from '#setup/options.ts'
import { readRecord } from '#setup/record.ts'
import { CLOUD_USER, ensureUser, type User, userOrNumbers } from '#setup/users.ts'
import { readPidFile } from '#supervise/identity.ts'
import { pidFileOf } from '#supervise/supervisor.ts'

const HELP = `Usage: arcus restore FILE [--data DIR]

Puts the cloud of a backup back where none is: into DIR/cloud, which must be empty. Start it as ever afterwards, with
\`arcus up\`, or with \`serve\` for another folder; what runs is then made what the backup says. Persistent folders of pods
are not in a backup: put those back to DIR/agent yourself, before the start.

  --data DIR  where everything is kept; without it that of \`arcus up\` (${DEFAULT_DATA})`

/** What an earlier try or a lock may leave in a folder that is as good as empty. */
const IGNORED = /^lock(-journal|-wal|-shm)?$/

const say = (line: string): void => console.error(line)

/**
 * Takes the cloud's folder until it is closed, so that nobody else fills it meanwhile. Refused while a cloud is there, or a
 * process of one runs.
 */
function takeFree(layout: Layout): { close(): void } {
  for (const name of ['cloud', 'agent', 'edge']) {
    if (readPidFile(pidFileOf(layout.run, name)) === undefined) continue
    throw new CloudError('conflict', `the ${name} process runs here; stop it first with \`arcus down\``)
  }
  const cloud = cloudData(layout)
  mkdirSync(layout.data, { recursive: true, mode: 0o711 })
  // Names the process when one is at work there.
  const lock = lockFolder(cloud)
  if (readdirSync(cloud).every((it) => IGNORED.test(it))) return lock
  lock.close()
  throw new CloudError(
    'already_exists',
    `${cloud} holds a cloud already; choose another --data DIR, or remove that one (\`arcus down --purge\`)`,
  )
}

async function give(path: string, user: User): Promise<void> {
  await chown(path, user.uid, user.gid)
  if (!(await stat(path)).isDirectory()) return
  for (const it of await readdir(path)) await give(join(path, it), user)
}

/**
 * What the agent of this machine knows is of a later cloud: it would take this one for overtaken, and its plans for old. So
 * the next epoch is above all that it has seen, and it forgets its plans; what still runs is then nobody's and removed, or
 * made again. Volumes stay.
 */
async function overtake(layout: Layout, database: string): Promise<void> {
  const agent = agentData(layout)
  const seen = Number((await readIfThere(join(agent, 'epoch'))) ?? 0)
  if (Number.isSafeInteger(seen) && seen > 0) raiseGuard(database, 'epoch', seen)
  for (const it of ['network', 'containers/wishes'])
    await rm(join(agent, it), { recursive: true, force: true })
}

async function restore(file: string, layout: Layout, owner: User | undefined): Promise<void> {
  const cloud = cloudData(layout)
  const staging = restoringData(layout)
  await rm(staging, { recursive: true, force: true })
  try {
    const { madeAt, version } = await unpack(file, staging)
    say(`A backup of ${madeAt}, by version ${version} …`)
    const database = join(staging, 'arcus.sqlite')
    const damage = existsSync(database) ? damageOf(database) : 'it holds no database'
    if (damage !== undefined) throw new CloudError('unavailable', `${file} is damaged: ${damage}`)
    await overtake(layout, database)
    if (owner) await give(staging, owner)
    await rm(cloud, { recursive: true, force: true })
    await rename(staging, cloud)
  } catch (error) {
    for (const it of await readdir(cloud).catch(() => [])) if (IGNORED.test(it)) await rm(join(cloud, it))
    await rmdir(cloud).catch(() => {})
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC')
      throw new CloudError('unavailable', `no space is left below ${layout.data}; free some`)
    throw error
  } finally {
    await rm(staging, { recursive: true, force: true })
  }
}

await runCommand('restore', async () => {
  const { values, positionals } = parseWords(process.argv.slice(2), {
    help: { type: 'boolean', short: 'h' },
    data: { type: 'string' },
  })
  if (values.help) return console.log(HELP)
  const [given, ...more] = positionals
  if (given === undefined || more.length > 0) throw new CloudError('invalid', 'restore takes one FILE')
  const file = resolve(given)
  if (!existsSync(file)) throw new CloudError('unavailable', `there is no file ${file}`)
  const machine = readRecord()?.data ?? DEFAULT_DATA
  const data = values.data === undefined ? machine : folderOption(values.data)
  const layout = data === machine ? machineLayout(data) : folderLayout(data)
  const lock = takeFree(layout)
  // Without root there is one account, which runs everything.
  const isRoot = process.getuid?.() === 0
  const owner = data === machine && isRoot ? await ensureUser(CLOUD_USER) : userOrNumbers(CLOUD_USER)
  try {
    // A cloud can still start there when this is killed.
    if (isRoot) await give(cloudData(layout), owner)
    say(`Restoring ${file} …`)
    await restore(file, layout, isRoot ? owner : undefined)
  } finally {
    lock.close()
  }
  console.log(cloudData(layout))
})
