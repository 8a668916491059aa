import type { ContainerWish } from '#cloud/compute/compute.driver.ts'
import type { HeldAttachment } from './attach.ts'
import type { Real } from './plan.ts'
import type { Held } from './wishes.ts'

const uuid = (n: number): string => `01900000-0000-7000-8000-${String(n).padStart(12, '0')}`

/** A wish that every rule allows, with changes. */
export const testWish = (change: Partial<ContainerWish> = {}): ContainerWish => ({
  id: uuid(1),
  tenant: uuid(2),
  workload: uuid(3),
  vpc: uuid(4),
  subnet: uuid(5),
  attempt: 1,
  name: 'Web Front',
  image: 'registry.example:5000/team/web:1.2',
  env: { MODE: 'fast' },
  hostname: 'web-0',
  cpuMillicores: 250,
  memoryMib: 64,
  pidsMax: 100,
  capabilities: [],
  mounts: [{ volume: uuid(6), path: '/data', readOnly: false }],
  healing: true,
  stopGraceSeconds: 5,
  dns: { search: ['shop.internal'], ndots: 2 },
  ...change,
})

export const testAttachment: HeldAttachment = {
  vpc: uuid(4),
  subnet: { id: uuid(5), cidr: '10.0.0.0/24', gateway: '10.0.0.1', cidr6: 'fd00:1::/64' },
  plan: {
    id: uuid(1),
    subnet: uuid(5),
    address: '10.0.0.9',
    address6: 'fd00:1::9',
    mac: '02:ac:0a:00:00:09',
    fabric: '100.120.0.9',
    groups: [],
  },
}

export const testHeld = (change: Partial<Held> = {}, wish: Partial<ContainerWish> = {}): Held => {
  const { registry: _, inside: __, ...kept } = testWish(wish)
  return { wish: kept, starts: 0, ...change }
}

/** Its container, running, as Docker shows it. */
export const testReal = (change: Partial<Real> = {}): Real => ({
  runtimeId: 'c1',
  workload: uuid(3),
  vpc: uuid(4),
  subnet: uuid(5),
  attempt: 1,
  recipe: 'recipe',
  status: 'running',
  pid: 100,
  startedAt: '2026-01-01T00:00:00.000000000Z',
  finishedAt: '0001-01-01T00:00:00Z',
  exitCode: 0,
  oomKilled: false,
  memory: 64 * 1024 * 1024,
  nanoCpus: 250_000_000,
  stopGraceSeconds: 5,
  health: undefined,
  half: false,
  ...change,
})
