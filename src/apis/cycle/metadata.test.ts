import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import type { Metadata } from '#cloud/cloud.ts'
import { SERVICES } from '#cloud/compute/workload.kind.ts'
import { contractAjv } from '../../../test/e2e/contract.testing.ts'
import { metadataOf } from './metadata.ts'

const CONTRACT = new URL('../../../test/contracts/cycle.json', import.meta.url)
const ajv = contractAjv()
ajv.addSchema(JSON.parse(readFileSync(CONTRACT, 'utf8')) as object, 'contract')
const isValid = ajv.compile({ $ref: 'contract#/components/schemas/EnvironmentMetadataFile' })

const id = '0199aaaa-bbbb-7ccc-8ddd-eeeeffff0000'
const vpc = { id, spec: { internet: true, index: 7, range6: 'fd12:3456:789a::/48' } } as Metadata['vpc']

test('the file about an environment is as its schema says, with services and without', () => {
  const services = Object.fromEntries(SERVICES.map((it) => [it, { workload: { id } }]))
  const vpn = { enabled: true, vpnUsers: true, users: false }
  const rich = { ...vpc, spec: { ...vpc.spec, vpn, deployments: { live: 'v2' } } }
  for (const of of [
    { vpc, services: {} },
    { vpc: rich, services },
  ]) {
    const document: unknown = JSON.parse(JSON.stringify(metadataOf(of)))
    assert.ok(isValid(document), JSON.stringify(isValid.errors))
  }
  const { deployments, private_network: network } = metadataOf({ vpc: rich, services })
  assert.deepEqual(deployments, { tags: { live: 'v2' } })
  assert.deepEqual(network?.ipv6, { ip: 'fd12:3456:789a::', cidr: 'fd12:3456:789a::/48' })
})
