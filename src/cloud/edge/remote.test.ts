import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { AnyKind } from '#engine/resource.ts'
import type { Look } from '#engine/reconcile.ts'
import { PROVIDER } from '#cloud/cloud.testing.ts'
import { createRemoteTunnels } from './remote.ts'
import type { Tunnel } from './tunnel.kind.ts'

const tunnelAs = (hostname: string): Tunnel =>
  ({ id: hostname, tenant: 't', spec: { workload: 'w', protocol: 'http', hostname, port: 80 } }) as Tunnel
const config = {
  id: 'p',
  spec: { ...PROVIDER, cloudflareAccountId: 'account', cloudflareToken: 'sealed' },
}

/** One tunnel of an installation at Cloudflare, and what is there of it. */
function scene() {
  const there = { tunnels: [] as Tunnel[], ingress: [] as string[], records: new Set<string>() }
  const once: { lost: boolean; gate: Promise<void> | undefined } = { lost: false, gate: undefined }
  const remote = createRemoteTunnels({
    edgePort: 443,
    connector: { apply: async () => {}, observe: async () => await Promise.resolve({ state: 'running' }) },
    cloudflare: {
      tunnel: async () => await Promise.resolve({ id: 'tunnel', connectorToken: 'token' }),
      async configure(_access, _id, ingress) {
        there.ingress = ingress.map((it) => it.hostname)
        if (once.lost) throw new Error('the answer was lost')
        await Promise.resolve()
      },
      async point(_access, _id, hostname) {
        const { gate } = once
        once.gate = undefined
        await gate
        there.records.add(hostname)
      },
      async unpoint(_access, _id, hostname) {
        there.records.delete(hostname)
        await Promise.resolve()
      },
    },
  })
  const look = {
    signal: new AbortController().signal,
    draft: {
      list: async ({ name }: AnyKind) =>
        await Promise.resolve(name === 'provider' ? [config] : name === 'tunnel' ? there.tunnels : []),
      open: () => 'a token of Cloudflare',
    },
  } as unknown as Look
  return { there, once, remote, look }
}

test('an ingress that goes back after the answer to another was lost is written again', async () => {
  const { there, once, remote, look } = scene()
  const [one, two] = [tunnelAs('one.example'), tunnelAs('two.example')]
  there.tunnels = [one]
  await remote.keep(one, look)
  there.tunnels = [one, two]
  once.lost = true
  await assert.rejects(remote.keep(two, look), /the answer was lost/)
  assert.deepEqual(there.ingress, ['one.example', 'two.example'])
  once.lost = false
  there.tunnels = [one]
  await remote.drop(two, look)
  assert.deepEqual(there.ingress, ['one.example'])
})

test('a look of before does not point the name of a removed tunnel to Cloudflare again', async () => {
  const { there, once, remote, look } = scene()
  const one = tunnelAs('one.example')
  there.tunnels = [one]
  const open = Promise.withResolvers<void>()
  once.gate = open.promise
  const before = remote.keep(one, look).catch(() => {})
  for (let n = 0; n < 5; n++) await turn()
  there.tunnels = []
  const dropped = remote.drop(one, look)
  await turn()
  open.resolve()
  await Promise.all([before, dropped])
  assert.deepEqual([...there.records], [])
})
