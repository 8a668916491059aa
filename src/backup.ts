import { existsSync, readFileSync, rmSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { systemClock } from '#lib/clock.ts'
import { PROGRAM } from '#lib/entry.ts'
import { CloudError, isCloudError, messageOf } from '#lib/errors.ts'
import { copyDatabase } from '#engine/store.sqlite.copy.ts'
import { nextOf, pack } from '#setup/archive.ts'
import { cloudFolder } from '#setup/layout.ts'
import { runCommand } from '#setup/main.ts'
import { DEFAULT_DATA, folderOption, parseWords } from '#setup/options.ts'
import { readRecord } from '#setup/record.ts'

const HELP = `Usage: arcus backup FILE|FOLDER [--data DIR]

Writes a backup of the cloud on this machine to a new file, or to one named by the time in a folder, while the cloud runs
or not. Everything that was answered before it began is in it, and nothing half: every resource and record, the master key,
the administrator's credentials, the certificates, metrics. Whoever can read it can read every secret: it is for its owner
alone (0600).

Not in it: the persistent folders of pods (DIR/agent), disk images (DIR/cloud/images), logs of containers. Copy those apart.

  --data DIR  a cloud that \`serve\` runs below DIR; without it the one of \`arcus up\``

/** What is copied as it is, where it is there: it is written once, before what needs it. */
const FILES = ['master.key', 'admin.json']
const FOLDERS = ['tls']
const PROGRESS_MS = 2000

const say = (line: string): void => console.error(line)

/** Says at most every few seconds how far something is. */
function progress(what: string): (part: number) => void {
  let toldAt = systemClock.now()
  return (part) => {
    if (Math.abs(systemClock.now() - toldAt) < PROGRESS_MS) return
    toldAt = systemClock.now()
    say(`  … ${what} ${Math.floor(part * 100)} %`)
  }
}

/** Everything of a cloud, copied to an empty folder. */
async function copyAll(cloud: string, to: string): Promise<void> {
  await copyDatabase(join(cloud, 'arcus.sqlite'), join(to, 'arcus.sqlite'), progress('database'))
  for (const it of FILES) if (existsSync(join(cloud, it))) await copyFile(join(cloud, it), join(to, it))
  for (const folder of FOLDERS) {
    if (!existsSync(join(cloud, folder))) continue
    await mkdir(join(to, folder), { mode: 0o700 })
    for (const it of await readdir(join(cloud, folder)))
      await copyFile(join(cloud, folder, it), join(to, folder, it))
  }
  if (!existsSync(join(cloud, 'records'))) return
  await mkdir(join(to, 'records'), { mode: 0o700 })
  const days = (await readdir(join(cloud, 'records'))).filter((it) => it.endsWith('.sqlite'))
  for (const [n, it] of days.entries()) {
    await copyDatabase(join(cloud, 'records', it), join(to, 'records', it)).catch((error: unknown) => {
      // A day that was kept long enough meanwhile.
      if (!isCloudError(error, 'not_found')) throw error
    })
    progress('records')((n + 1) / days.length)
  }
}

/** Has a signal that ends this process remove first what is not whole: all secrets are in it, and it may be large. */
function removeOnSignal(...paths: string[]): void {
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(name, () => {
      for (const it of paths) rmSync(it, { recursive: true, force: true })
      process.kill(process.pid, name)
    })
}

/** The file to write, refused when it is there or cannot be. */
async function target(given: string): Promise<string> {
  const path = resolve(given)
  const found = await stat(path).catch(() => undefined)
  const stamp = new Date(systemClock.now()).toISOString().slice(0, 19).replaceAll(':', '')
  const file = found?.isDirectory() ? join(path, `arcus-${stamp}.tar`) : path
  if (existsSync(file))
    throw new CloudError('already_exists', `${file} exists already; give the name of a new file`)
  if (!existsSync(dirname(file)))
    throw new CloudError('unavailable', `there is no folder ${dirname(file)}; make it first`)
  return file
}

await runCommand('backup', async () => {
  const { values, positionals } = parseWords(process.argv.slice(2), {
    help: { type: 'boolean', short: 'h' },
    data: { type: 'string' },
  })
  if (values.help) return console.log(HELP)
  const [given, ...more] = positionals
  if (given === undefined || more.length > 0)
    throw new CloudError('invalid', 'backup takes one FILE or FOLDER')
  const data = values.data === undefined ? (readRecord()?.data ?? DEFAULT_DATA) : folderOption(values.data)
  const cloud = cloudFolder(data)
  if (cloud === undefined)
    throw new CloudError(
      'unavailable',
      `there is no cloud in ${data} that you can read; give --data DIR, or run it as root`,
    )
  const file = await target(given)
  const staging = await mkdtemp(join(dirname(file), `.${basename(file)}-`)).catch((error: unknown) => {
    throw new CloudError('unavailable', `nothing can be written to ${dirname(file)} (${messageOf(error)})`)
  })
  removeOnSignal(staging, nextOf(file))
  try {
    say(`Copying ${cloud} …`)
    await copyAll(cloud, staging)
    say(`Writing ${file} …`)
    const { version } = JSON.parse(readFileSync(join(PROGRAM, 'package.json'), 'utf8')) as {
      version: string
    }
    await pack(staging, file, { version, madeAt: new Date(systemClock.now()).toISOString() })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC')
      throw new CloudError('unavailable', `no space is left for ${file}; free some, or choose another place`)
    throw error
  } finally {
    await rm(staging, { recursive: true, force: true })
  }
  console.log(file)
})
