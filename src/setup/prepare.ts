import type { Clock } from '#lib/clock.ts'
import { PROGRAM } from '#lib/entry.ts'
import { messageOf } from '#lib/errors.ts'
import { HOST_NEEDS } from '#lib/needs.ts'
import { checkReach } from './checks.ts'
import { commandExists, type Say } from './command.ts'
import { engineAnswers } from './engine.ts'
import { cloudData, edgeData, type Layout, makeFolders } from './layout.ts'
import { enginePackages, installPackages, missingPackages } from './packages.ts'
import { installProgram } from './program.ts'
import { CLOUD_USER, EDGE_USER, ensureUser, type User } from './users.ts'

export type Prepared = {
  readonly program: string
  readonly users: { readonly cloud: User; readonly edge: User }
}

/** Installs what the machine lacks; a container engine that cannot be installed is not an error but said. */
export async function prepareHost(say: Say, clock: Clock): Promise<void> {
  await installPackages(missingPackages(HOST_NEEDS), say, clock)
  if (commandExists('dockerd') || (await engineAnswers())) return
  await installPackages(enginePackages(), say, clock).catch((error: unknown) => say(messageOf(error)))
}

/** Makes accounts, the copy of the program and the folders. */
export async function prepareCloud(layout: Layout, say: Say): Promise<Prepared> {
  const users = { cloud: await ensureUser(CLOUD_USER), edge: await ensureUser(EDGE_USER) }
  makeFolders(layout, users)
  const program = await installProgram(PROGRAM, layout.programs, say)
  await checkReach(users.cloud, cloudData(layout))
  await checkReach(users.edge, edgeData(layout))
  await checkReach(users.cloud, program)
  return { program, users }
}
