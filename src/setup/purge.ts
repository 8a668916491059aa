import { existsSync, readdirSync, rmdirSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Clock } from '#lib/clock.ts'
import { entryFile } from '#lib/entry.ts'
import { CloudError, messageOf } from '#lib/errors.ts'
import { readPidFile } from '#supervise/identity.ts'
import { takeLock } from '#supervise/lock.ts'
import { stopByPidFile } from '#supervise/stop.ts'
import { createSupervisor, pidFileOf } from '#supervise/supervisor.ts'
import { commandExists, run, runLong, type Say } from './command.ts'
import { ENGINE, ensureEngine } from './engine.ts'
import { agentData, cloudData, cloudFolder, edgeData, type Layout, restoringData } from './layout.ts'
import { removeRecord } from './record.ts'
import { removeUnits } from './units.ts'
import { CLOUD_USER, EDGE_USER, removeUser } from './users.ts'

const PURGE_SECONDS_MAX = 300
const TOOL_SECONDS_MAX = 20
const NAMESPACES = '/run/netns'
const HOST_LOCK = '/run/arcus-host/arcus.lock'

export type Purge = {
  readonly layout: Layout
  /** Settings of ours from the environment, by name. */
  readonly settings: Readonly<Record<string, string>>
  readonly say: Say
  readonly clock: Clock
}

/** Removes everything of ours from Docker, the network and the disks of this machine, with the agent's own program. */
async function purgeHost({ layout, settings, say, clock }: Purge): Promise<void> {
  if (!existsSync(agentData(layout))) return
  say('Removing containers, networks and volumes …')
  const argv = [process.execPath, entryFile('host'), '--data', agentData(layout), '--purge']
  try {
    await runLong(argv, { env: settings, secondsMax: PURGE_SECONDS_MAX, say, clock })
  } catch (error) {
    throw new CloudError(
      'unavailable',
      `not everything could be removed, repeat it: ${messageOf(error)}`,
      {},
      error,
    )
  }
}

const remove = (...paths: string[]): void => {
  for (const path of paths) rmSync(path, { recursive: true, force: true })
}

/** The agent's lock for this machine, which one that runs no more leaves behind. */
function removeHostLock(): void {
  const lock = existsSync(HOST_LOCK) ? takeLock(HOST_LOCK) : undefined
  if (!lock) return
  remove(HOST_LOCK, `${HOST_LOCK}.holder`)
  lock.release()
  if (readdirSync(dirname(HOST_LOCK)).length === 0) rmdirSync(dirname(HOST_LOCK))
}

/** iproute2 mounts a folder for the first namespace and leaves it; without namespaces nobody needs it. */
async function removeNamespaceFolder(): Promise<void> {
  if (!existsSync(NAMESPACES) || readdirSync(NAMESPACES).length > 0) return
  await run(['umount', NAMESPACES], TOOL_SECONDS_MAX).catch(() => undefined)
}

/** The folders below the data folder that every cloud has; last of what is removed, since a cloud is known by them. */
const ownData = (it: Layout): readonly string[] => [
  agentData(it),
  edgeData(it),
  restoringData(it),
  cloudData(it),
]

/** Removes a cloud's own folders, and the one for its data if nothing else is in it: it may be a disk with more. */
export function removeFolders(layout: Layout, say: Say): void {
  const { data, run: sockets, logs, cache, programs } = layout
  // A cloud in one process has its database in the folder itself, with all else.
  if (cloudFolder(data) === data) return remove(data)
  remove(logs, cache, programs, ...ownData(layout))
  // With the lock that keeps an `up` away.
  remove(sockets)
  if (!existsSync(data)) return
  const others = readdirSync(data)
  if (others.length > 0) return say(`${data} stays, for what is not of Arcus in it: ${others.join(', ')}`)
  try {
    rmdirSync(data)
  } catch (error) {
    // Such as where a disk is mounted.
    say(`${data} stays, empty: ${messageOf(error)}`)
  }
}

/** Removes what a cloud below one folder made, and the folder if it holds nothing else. Its processes must have ended. */
export async function purgeFolder(how: Purge): Promise<void> {
  const { layout, say } = how
  const { data } = layout
  if (cloudFolder(data) === undefined && !ownData(layout).some((it) => existsSync(it)))
    return say(`There is no cloud in ${data}, and nothing is removed.`)
  await purgeHost(how)
  removeHostLock()
  removeFolders(layout, say)
  say(`The cloud of ${data} and what was made for it are removed.`)
}

/** Removes what `up` made on this machine, packages excepted. Its processes must have ended. */
export async function purgeMachine(how: Purge): Promise<void> {
  const { layout, say, clock } = how
  // Containers can be removed only by a running engine, so one that we ran is started again for it.
  const supervisor = createSupervisor({ folder: layout.run, logs: layout.logs, clock })
  const docker = pidFileOf(layout.run, ENGINE.name)
  const isOurs = readPidFile(docker) !== undefined
  try {
    if (existsSync(agentData(layout)) && commandExists('dockerd')) {
      await ensureEngine(isOurs, () => supervisor.start(ENGINE), say).catch((error: unknown) =>
        say(messageOf(error)),
      )
    }
    await purgeHost(how)
  } finally {
    await supervisor.leave()
  }
  if (await stopByPidFile(docker, ENGINE.stopSecondsMax, clock))
    say('Docker, which Arcus had started, is stopped.')
  removeHostLock()
  await removeNamespaceFolder()
  await removeUnits()
  for (const name of [CLOUD_USER, EDGE_USER]) await removeUser(name)
  removeFolders(layout, say)
  removeRecord()
  say('Everything that Arcus made is removed; packages stay.')
}
