import { existsSync } from 'node:fs'
import { steadyClock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'
import type { Say } from '#setup/command.ts'
import { folderLayout, machineLayout } from '#setup/layout.ts'
import { runCommand } from '#setup/main.ts'
import { DEFAULT_DATA, folderOption, parse } from '#setup/options.ts'
import { alone } from '#setup/parent.ts'
import { settingsOf } from '#setup/programs.ts'
import { purgeFolder, purgeMachine } from '#setup/purge.ts'
import { readRecord } from '#setup/record.ts'
import { stopAll } from '#setup/stop.ts'
import { stopUnits } from '#setup/units.ts'

const HELP = `Usage: arcus down [--purge] [--data DIR]

Stops the cloud on this machine; containers keep running. Safe to repeat.

  --purge     also remove everything it made: containers, networks, data, accounts, units, logs; packages stay
  --data DIR  a cloud that \`serve\` runs below DIR; without it the one of \`arcus up\``

const say: Say = (line) => console.error(line)

const tell = (stopped: boolean): void => say(stopped ? 'Arcus is stopped.' : 'Arcus was not running.')

await runCommand('down', async () => {
  const values = parse(process.argv.slice(2), {
    help: { type: 'boolean', short: 'h' },
    purge: { type: 'boolean' },
    data: { type: 'string' },
  })
  if (values.help) return console.log(HELP)
  const settings = settingsOf(process.env)
  const machine = readRecord()?.data ?? DEFAULT_DATA
  const data = values.data === undefined ? machine : folderOption(values.data)
  if (data === machine) {
    const layout = machineLayout(data)
    const units = await stopUnits()
    tell((await stopAll(layout, steadyClock)) || units)
    if (!values.purge) return
    const lock = alone(layout.run)
    try {
      await purgeMachine({ layout, settings, say, clock: steadyClock })
    } finally {
      lock.release()
    }
    return
  }
  if (!existsSync(data)) {
    if (values.purge) return
    throw new CloudError('unavailable', `there is no folder ${data}`)
  }
  const layout = folderLayout(data)
  tell(await stopAll(layout, steadyClock))
  if (values.purge) await purgeFolder({ layout, settings, say, clock: steadyClock })
})
