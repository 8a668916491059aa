// A host agent and what another data folder's made on the same machine.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { enterSandbox, folder, sh } from './sandbox.ts'

await enterSandbox(import.meta.filename)
// What is the machine's own is neither seen nor touched.
for (const it of ['/run', '/etc/docker']) {
  mkdirSync(it, { recursive: true })
  sh('mount', '-t', 'tmpfs', 'tmpfs', it)
}
mkdirSync('/run/netns')

const HOST = join(import.meta.dirname, '../../src/host.ts')
const HOLDER = '/run/arcus-host/towns.lock.holder'
const [former, mine] = [join(folder(), 'agent'), join(folder(), 'agent')]
mkdirSync('/run/arcus-host')
mkdirSync(join(former, 'network'), { recursive: true })
writeFileSync(join(former, 'network/host.json'), '{}')
writeFileSync(HOLDER, `process 4194304, data in ${former}\n`)

const purge = (...more: string[]): { status: number | null; said: string } => {
  const args = ['--data', mine, '--purge', '--prefix', 'towns', '--docker', join(mine, 'no.sock'), ...more]
  const { status, stderr } = spawnSync(process.execPath, [HOST, ...args], {
    encoding: 'utf8',
    timeout: 60_000,
  })
  return { status, said: stderr }
}

test('an agent does not start over what another folder left running, and says how to end it', () => {
  for (const time of ['once', 'again']) {
    const { status, said } = purge()
    assert.equal(status, 1, time)
    assert.ok(said.includes(`belong to ${former}, whose host agent does not run`), said)
    assert.ok(said.includes(`arcus down --data ${join(former, '..')} --purge`), said)
    assert.ok(readFileSync(HOLDER, 'utf8').includes(former))
  }
})

test('one that is told to purge everything of the name takes it over', () => {
  const { status, said } = purge('--all')
  assert.equal(status, 0, said)
  assert.equal(existsSync('/etc/docker/plugins/towns.spec'), false)
})

test('once the other folder is gone there is nobody to ask', () => {
  writeFileSync(HOLDER, `process 4194304, data in ${former}\n`)
  rmSync(former, { recursive: true })
  const { status, said } = purge()
  assert.equal(status, 0, said)
})
