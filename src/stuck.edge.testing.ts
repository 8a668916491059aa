import { CloudError } from '#lib/errors.ts'
import { PROVIDER } from '#cloud/cloud.testing.ts'
import { certificate } from '#cloud/edge/certificate.kind.ts'
import { route } from '#cloud/edge/route.kind.ts'
import { serviceTunnel } from '#cloud/edge/service-tunnel.kind.ts'
import { tunnel } from '#cloud/edge/tunnel.kind.ts'
import type { AnyKind, Resource } from '#engine/resource.ts'
import { type Case, EDGE_AWAY, type Ground } from './stuck.testing.ts'

// Every way for what leads in from outside to hang: the edge, its certificate, Cloudflare.

const DOMAIN = 'acme.example'
export const HOSTNAME = `app.${DOMAIN}`
export const HOLIDAY = new CloudError('unavailable', 'the authority does not answer: connect ECONNREFUSED')
const FULL = new CloudError('unavailable', 'the edge cannot keep its table: no space left on device')
const WITH_DOMAIN = { ...PROVIDER, cloudflareDomain: 'cloud.example' }
export const CLOUDFLARE = {
  ...WITH_DOMAIN,
  cloudflareAccountId: 'account',
  cloudflareToken: 'a token of Cloudflare',
}

export const mend = (ground: Ground): void => ground.mend()

export const create = async (ground: Ground, kind: unknown, name: string, spec: object): Promise<string> => {
  const made = await ground.act(
    async (verbs) => (await verbs.create(kind as AnyKind, { name, spec })) as Resource,
  )
  return made.id
}
export const asAdmin = async <R>({ it }: Ground, work: Parameters<typeof it.cloud.act<R>>[2]): Promise<R> =>
  await it.cloud.act(it.admin, 'test', work)

export const change = async (ground: Ground, kind: unknown, id: string, spec: object): Promise<void> =>
  void (await ground.act(async (verbs) => await verbs.patch(kind as AnyKind, id, { spec })))

export const remove = async (ground: Ground, kind: unknown, id: string): Promise<void> =>
  void (await ground.act(async (verbs) => await verbs.remove(kind as AnyKind, id)))

export const own = async (ground: Ground): Promise<void> =>
  await asAdmin(ground, async (verbs) => void (await verbs.addDomain(ground.tenant, DOMAIN)))
export const provide = async (ground: Ground, config = WITH_DOMAIN): Promise<void> =>
  await asAdmin(ground, async (verbs) => void (await verbs.putProvider(config)))

/** A domain of the tenant and a pod of it, settled. */
async function site(ground: Ground): Promise<{ workload: string; vpc: string }> {
  await own(ground)
  const { id, spec } = await ground.pod()
  await ground.settle()
  return { workload: id, vpc: spec.vpc }
}

type Leading = 'tunnel' | 'route' | 'service-tunnel'
const KIND = { tunnel, route, 'service-tunnel': serviceTunnel } as const

/** One that leads somewhere, with what it leads to made and settled before. */
async function lead(
  ground: Ground,
  kind: Leading,
  before: () => void | Promise<void> = () => {},
): Promise<string> {
  if (kind === 'service-tunnel') {
    await provide(ground, WITH_DOMAIN)
    await ground.settle()
    await before()
    return await asAdmin(
      ground,
      async (verbs) =>
        (await verbs.createServiceTunnel({ service: 'api', protocol: 'https', subdomain: 'api' })).id,
    )
  }
  const { workload, vpc } = await site(ground)
  await before()
  if (kind === 'tunnel')
    return await create(ground, tunnel, 'app', { workload, protocol: 'http', hostname: HOSTNAME, port: 80 })
  const targets = [{ workload, port: 80, weight: 1 }]
  return await create(ground, route, 'app', { vpc, hostname: HOSTNAME, targets })
}

/** One in force, settled. */
export async function led(ground: Ground, kind: Leading): Promise<string> {
  const id = await lead(ground, kind)
  await ground.settle()
  return id
}

/** A change of what is in force, for the edge to take. */
async function changeLeading(ground: Ground, kind: Leading, id: string): Promise<void> {
  if (kind === 'route') {
    const [target] = ((await ground.it.engine.get(route, '*', id)) ?? { spec: { targets: [] } }).spec.targets
    return await change(ground, route, id, { targets: [{ ...target, port: 81 }] })
  }
  if (kind === 'tunnel') {
    const other = await create(ground, certificate, 'other', { names: [HOSTNAME] })
    await ground.settle()
    ground.fail('front', EDGE_AWAY)
    return await change(ground, tunnel, id, { certificate: other })
  }
  await asAdmin(
    ground,
    async (verbs) =>
      void (await verbs.createServiceTunnel({ service: 'admin-gui', protocol: 'https', subdomain: 'gui' })),
  )
  await ground.it.engine.wake(`service-tunnel/${id}`)
}

const removeLeading = async (ground: Ground, kind: Leading, id: string): Promise<void> =>
  kind === 'service-tunnel'
    ? await asAdmin(ground, async (verbs) => void (await verbs.remove(serviceTunnel as never, id)))
    : await remove(ground, KIND[kind], id)

const waitsFor = (kind: Leading): RegExp =>
  kind === 'service-tunnel'
    ? /the edge does not answer at .*edge\.sock/
    : /waits for the edge and VPC net0.*: the edge does not answer at .*edge\.sock/

const leading = (['tunnel', 'route', 'service-tunnel'] as const).flatMap((kind): Case[] => [
  {
    kind,
    state: 'pending',
    title: 'the edge is away',
    stick: async (ground) => await lead(ground, kind, () => ground.fail('front', EDGE_AWAY)),
    says: waitsFor(kind),
    free: mend,
  },
  {
    kind,
    state: 'pending',
    title: 'the edge does not take its certificate',
    stick: async (ground) => await lead(ground, kind, () => ground.fail('front.applyCertificate', FULL)),
    says: /waits for certificate (app|api)\.\S+: the edge cannot keep its table: no space left/,
    free: mend,
  },
  {
    kind,
    state: 'error',
    title: 'its certificate is not issued',
    stick: async (ground) => await lead(ground, kind, () => ground.fail('issuer.issue', HOLIDAY)),
    says: /waits for certificate (app|api)\.\S+: not issued: the authority does not answer.*; tried again in/,
    free: mend,
  },
  {
    kind,
    state: 'active',
    title: 'a change of it is not taken by the edge',
    async stick(ground) {
      const id = await led(ground, kind)
      if (kind !== 'tunnel') ground.fail('front', EDGE_AWAY)
      await changeLeading(ground, kind, id)
      return id
    },
    says: waitsFor(kind),
    free: mend,
  },
  {
    kind,
    state: 'deleting',
    title: 'the edge is away',
    async stick(ground) {
      const id = await led(ground, kind)
      ground.fail('front', EDGE_AWAY)
      await removeLeading(ground, kind, id)
      return id
    },
    says: waitsFor(kind),
    free: mend,
  },
])

const REMOTE: readonly Case[] = [
  {
    kind: 'tunnel',
    state: 'pending',
    title: 'the connector of Cloudflare is missing',
    async stick(ground) {
      const message = 'cloudflared is not installed on this machine'
      ground.it.world.connector.pretend({ state: 'failed', message })
      return await lead(ground, 'tunnel', async () => await provide(ground, CLOUDFLARE))
    },
    says: /waits for the connector of Cloudflare: cloudflared is not installed/,
    free: ({ it }) => it.world.connector.pretend(),
  },
  {
    kind: 'tunnel',
    state: 'error',
    title: 'Cloudflare refuses its token',
    async stick(ground) {
      ground.fail(
        'world.tunnel',
        new CloudError('forbidden', 'Cloudflare refused: no (10000): check the token and its permissions'),
      )
      return await lead(ground, 'tunnel', async () => await provide(ground, CLOUDFLARE))
    },
    says: /Cloudflare refused: no \(10000\): check the token/,
    free: mend,
  },
  {
    kind: 'tunnel',
    state: 'error',
    title: 'Cloudflare wants it slower',
    async stick(ground) {
      const slower = { retryAfterSeconds: 30 }
      ground.fail('world.point', new CloudError('rate_limited', 'Cloudflare refused: slow (971)', slower))
      return await lead(ground, 'tunnel', async () => await provide(ground, CLOUDFLARE))
    },
    says: /Cloudflare refused: slow \(971\)/,
    free: mend,
  },
  {
    kind: 'tunnel',
    state: 'error',
    title: 'Cloudflare does not take where it leads',
    async stick(ground) {
      const down = new CloudError('unavailable', 'Cloudflare refused: internal error (1000)')
      ground.fail('world.configure', down)
      return await lead(ground, 'tunnel', async () => await provide(ground, CLOUDFLARE))
    },
    says: /Cloudflare refused: internal error \(1000\)/,
    free: mend,
  },
  {
    kind: 'tunnel',
    state: 'deleting',
    title: 'Cloudflare does not let its name go',
    async stick(ground) {
      const id = await lead(ground, 'tunnel', async () => await provide(ground, CLOUDFLARE))
      await ground.settle()
      ground.fail('world.unpoint', new CloudError('unavailable', 'Cloudflare does not answer: ETIMEDOUT'))
      await remove(ground, tunnel, id)
      return id
    },
    says: /Cloudflare does not answer: ETIMEDOUT/,
    free: mend,
  },
]

export const EDGE_CASES: readonly Case[] = [...leading, ...REMOTE]
