import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { systemClock } from '#lib/clock.ts'
import { COMMAND_ENV } from '#lib/command.ts'
import { silentLog } from '#lib/log.ts'
import { linuxNetwork } from './linux.ts'

const signal = AbortSignal.timeout(60_000)

/** Programs that do nothing but keep namespaces, as folders: `ip netns`, and the two ways into one. */
const PROGRAMS = {
  ip: `case "$1 $2" in
    "netns add") mkdir "$NAMESPACES/$3" ;;
    "netns del") rmdir "$NAMESPACES/$3" ;;
    "-n "*) [ -d "$NAMESPACES/$2" ] ;;
  esac`,
  nsenter: `case "$1" in --net=*) [ -d "$NAMESPACES/\${1##*/}" ] ;; esac`,
  nft: 'true',
  conntrack: 'true',
}

test('several who ask at the same time what the host lacks are told the same', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-missing-'))
  const { PATH } = COMMAND_ENV
  t.after(async () => {
    COMMAND_ENV.PATH = PATH
    await rm(folder, { recursive: true })
  })
  for (const [name, text] of Object.entries(PROGRAMS))
    await writeFile(join(folder, name), `#!/bin/sh\nNAMESPACES=${folder}\n${text}\n`, { mode: 0o755 })
  COMMAND_ENV.PATH = `${folder}:${PATH}`
  const network = linuxNetwork({
    prefix: 'tmis',
    directory: join(folder, 'plans'),
    clock: systemClock,
    log: silentLog,
  })
  assert.deepEqual(await Promise.all([1, 2, 3].map(() => network.missing(signal))), [[], [], []])
})
