import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { ARCUS, ROOT } from '../program.ts'
import { assertNothingLeft, hostSnapshot, run } from './host.testing.ts'

// The README's tour, pasted into a shell. It uses and purges the cloud of this machine, so where there is one already
// it is left alone and the test says so.
const TOUR_MS = 240_000
const MACHINE = '/var/lib/arcus'

/** The text of every block of the tour that is meant to be pasted. */
function tour(): string {
  const text = readFileSync(join(ROOT, 'README.md'), 'utf8')
  return [...text.matchAll(/^```bash\n(.*?)^```$/gms)].map(([, block]) => block).join('\n')
}

/** Before the script: a command that fails names itself, with what curl got last and what the processes of the cloud logged. */
const WITNESS = `
answers=$(mktemp)
curl() { command curl -S "$@" | tee "$answers"; }
trap 'echo "ended with $? at: $BASH_COMMAND" >&2; tail -c 2000 "$answers" /var/log/arcus/*.log >&2' ERR
trap 'rm -f "$answers"' EXIT
`

/** Runs a script as a person would paste it; gives all it printed. */
function paste(script: string): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const args = ['-eE', '-o', 'pipefail', '-c', WITNESS + script]
    const shell = spawn('bash', args, { cwd: ROOT, timeout: TOUR_MS })
    let output = ''
    const keep = (text: Buffer): void => void (output += text.toString())
    shell.stdout.on('data', keep)
    shell.stderr.on('data', keep)
    shell.once('error', reject)
    shell.once('close', (code) => resolve({ code, output }))
  })
}

const taken = existsSync(MACHINE) && `a cloud of this machine is kept in ${MACHINE}`

describe('README', { skip: taken }, () => {
  let host: Set<string>
  before(async () => {
    host = await hostSnapshot()
  })
  after(async () => {
    await run(ARCUS, 'down', '--purge')
    await assertNothingLeft(host)
  })

  test('the tour works as pasted', async () => {
    const { code, output } = await paste(tour())
    assert.equal(code, 0, output)
    assert.equal(output.match(/<title>Welcome to nginx!<\/title>/g)?.length, 3, output)
    assert.ok(!existsSync(MACHINE), 'purged')
  })
})
