import { existsSync } from 'node:fs'
import { systemClock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'
import { parseCidr } from '#lib/cidr.ts'
import { DEFAULT_SETTINGS } from '#cloud/context.ts'
import { type Check, examine, isFit } from '#doctor/check.ts'
import { diskChecks, newestOf } from '#doctor/disk.ts'
import { engineChecks } from '#doctor/engine.ts'
import { firewallChecks } from '#doctor/firewall.ts'
import { thisHost } from '#doctor/host.ts'
import { installationChecks } from '#doctor/installation.ts'
import { networkChecks } from '#doctor/network.ts'
import { machineChecks, registryChecks } from '#doctor/outside.ts'
import { asJson, asTable } from '#doctor/report.ts'
import { systemChecks } from '#doctor/system.ts'
import { ENGINE_SOCKET } from '#setup/engine.ts'
import { machineLayout } from '#setup/layout.ts'
import { runCommand } from '#setup/main.ts'
import { DEFAULT_DATA, DEFAULT_LISTEN, folderOption, parse, parseListen } from '#setup/options.ts'
import { runningParent } from '#setup/parent.ts'
import { readRecord } from '#setup/record.ts'
import { readPidFile } from '#supervise/identity.ts'
import { pidFileOf } from '#supervise/supervisor.ts'

const HELP = `Usage: arcus doctor [-o table|json] [--data DIR] [--listen HOST:PORT]... [--fabric CIDR] [--external-pool CIDR]
                    [--docker SOCKET] [--registry HOST[:PORT]]

Says what this machine can and cannot do, by feature, with the command that mends it. Changes nothing: what it tries (a
network namespace, a file in the data folder) goes again. Works before \`up\` and while a cloud runs; as root it sees more.

  -o, --output table|json  how to print (table)
  --data DIR               where everything is or would be kept (${DEFAULT_DATA})
  --listen HOST:PORT       where the API answers or would answer (${DEFAULT_LISTEN}); repeatable
  --fabric CIDR            the platform's own addresses (${DEFAULT_SETTINGS.fabric})
  --external-pool CIDR     addresses by which workloads are reached from outside (${DEFAULT_SETTINGS.externalCidr})
  --docker SOCKET          the container engine's socket (${ENGINE_SOCKET})
  --registry HOST[:PORT]   also ask this image registry; none is asked otherwise

What is not given is as at the last \`up\`. Exit codes: 0 everything that Arcus requires is here, 1 it is not, 2 wrong use.`

const PREFIX = 'arcus'

function range(option: string, text: string): string {
  if (!parseCidr(text)) throw new CloudError('invalid', `--${option} must be an IPv4 network, not ${text}`)
  return text
}

/** A word of an earlier command line: `--fabric`, CIDR. */
function told(words: readonly string[], option: string): string | undefined {
  const at = words.indexOf(option)
  return at < 0 ? undefined : words[at + 1]
}

function read(args: readonly string[]) {
  const string = { type: 'string' } as const
  const values = parse(args, {
    help: { type: 'boolean', short: 'h' },
    output: { type: 'string', short: 'o' },
    data: string,
    listen: { type: 'string', multiple: true },
    fabric: string,
    'external-pool': string,
    docker: string,
    registry: string,
  })
  if (values.help) return undefined
  const output = values.output ?? 'table'
  if (output !== 'table' && output !== 'json')
    throw new CloudError('invalid', `--output is table or json, not ${output}`)
  const before = readRecord()
  const more = before?.more ?? []
  const data = values.data === undefined ? before?.data : folderOption(values.data)
  const { fabric, externalCidr } = DEFAULT_SETTINGS
  return {
    output,
    layout: machineLayout(data ?? DEFAULT_DATA),
    listen: (values.listen ?? before?.listen ?? [DEFAULT_LISTEN]).map(parseListen),
    held: before?.listen ?? [],
    recorded: before !== undefined,
    fabric: range('fabric', values.fabric ?? told(more, '--fabric') ?? fabric),
    externalPool: range(
      'external-pool',
      values['external-pool'] ?? told(more, '--external-pool') ?? externalCidr,
    ),
    docker: values.docker ?? ENGINE_SOCKET,
    registry: values.registry,
  }
}

function checksFor(asked: NonNullable<ReturnType<typeof read>>): readonly Check[] {
  const host = thisHost(systemClock)
  const { layout } = asked
  const running =
    runningParent(layout.run) !== undefined ||
    (existsSync(layout.run) && readPidFile(pidFileOf(layout.run, 'cloud')) !== undefined)
  const ranges = { fabric: asked.fabric, externalPool: asked.externalPool, prefix: PREFIX }
  return [
    ...systemChecks(host, () => newestOf(layout)),
    ...installationChecks(host, { ...asked, running, prefix: PREFIX }),
    ...diskChecks(host, layout),
    ...networkChecks(host, ranges, DEFAULT_SETTINGS.externalCidr),
    ...firewallChecks(host, PREFIX),
    ...engineChecks(host, asked.docker),
    ...registryChecks(host, asked.registry),
    ...machineChecks(host),
  ]
}

await runCommand('doctor', async () => {
  const asked = read(process.argv.slice(2))
  if (!asked) return console.log(HELP)
  const results = await examine(checksFor(asked))
  process.stdout.write(asked.output === 'json' ? asJson(results) : asTable(results))
  process.exitCode = isFit(results) ? 0 : 1
})
