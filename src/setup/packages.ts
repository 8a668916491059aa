import { existsSync, readFileSync } from 'node:fs'
import type { Clock } from '#lib/clock.ts'
import { CloudError, messageOf } from '#lib/errors.ts'
import type { Need } from '#lib/needs.ts'
import { commandExists, runLong, type Say } from './command.ts'

const UPDATE_SECONDS_MAX = 300
const INSTALL_SECONDS_MAX = 900
/** How long another apt, such as the one at boot, may hold its lock. */
const APT_LOCK_SECONDS_MAX = 120

const APPARMOR = '/sys/module/apparmor/parameters/enabled'

/** Debian's container engine and what it needs to pull images and to start containers on this kernel. */
export function enginePackages(): string[] {
  const apparmor = existsSync(APPARMOR) && readFileSync(APPARMOR, 'utf8').startsWith('Y')
  return ['docker.io', 'ca-certificates', ...(apparmor ? ['apparmor'] : [])]
}

export const missingPackages = (needs: readonly Need[]): string[] => [
  ...new Set(needs.filter((it) => !commandExists(it.command)).map((it) => it.package)),
]

/** Installs Debian packages, refused `unavailable` with what apt said. */
export async function installPackages(packages: readonly string[], say: Say, clock: Clock): Promise<void> {
  if (packages.length === 0) return
  const names = packages.join(', ')
  if (!commandExists('apt-get')) {
    throw new CloudError(
      'unavailable',
      `${names} is missing and there is no apt-get here; install it and repeat`,
    )
  }
  const env = { DEBIAN_FRONTEND: 'noninteractive', NEEDRESTART_MODE: 'a' }
  const apt = ['apt-get', '-q', '-y', '-o', `DPkg::Lock::Timeout=${APT_LOCK_SECONDS_MAX}`]
  try {
    say('Reading the package lists …')
    await runLong([...apt, 'update'], { env, secondsMax: UPDATE_SECONDS_MAX, say, clock })
    say(`Installing ${names} …`)
    const install = [...apt, 'install', '--no-install-recommends', ...packages]
    await runLong(install, { env, secondsMax: INSTALL_SECONDS_MAX, say, clock })
  } catch (error) {
    throw new CloudError('unavailable', `${names} could not be installed: ${messageOf(error)}`)
  }
}
