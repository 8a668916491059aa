import { CloudError } from '#lib/errors.ts'
import { acme } from '#cloud/edge/acme.kind.ts'
import { certificate } from '#cloud/edge/certificate.kind.ts'
import { domain } from '#cloud/edge/domain.kind.ts'
import { tunnel } from '#cloud/edge/tunnel.kind.ts'
import {
  asAdmin,
  change,
  CLOUDFLARE,
  create,
  HOLIDAY,
  HOSTNAME,
  led,
  mend,
  own,
  provide,
  remove,
} from './stuck.edge.testing.ts'
import { type Case, EDGE_AWAY, type Ground } from './stuck.testing.ts'

// Every way for what vouches for hostnames to hang: certificates and who signs them, and domains.

const DAY_MS = 86_400_000

const setUp = async (ground: Ground, spec: object = {}): Promise<string> =>
  await asAdmin(ground, async (verbs) => {
    const directory = 'https://authority.example/directory'
    return (await verbs.create(acme as never, { name: 'authority', spec: { directory, ...spec } })).id
  })

const certify = async (ground: Ground, spec: object = {}): Promise<string> =>
  await create(ground, certificate, 'own', { names: [HOSTNAME], ...spec })

const CERTIFICATES: readonly Case[] = [
  {
    kind: 'certificate',
    state: 'pending',
    title: 'the edge is away',
    async stick(ground) {
      await own(ground)
      ground.fail('front', EDGE_AWAY)
      return await certify(ground)
    },
    says: /the edge does not answer at .*edge\.sock/,
    free: mend,
  },
  {
    kind: 'certificate',
    state: 'issued',
    title: 'its renewal fails',
    async stick(ground) {
      await own(ground)
      const id = await certify(ground)
      await ground.settle()
      const { renewAt = 0 } = (await ground.it.engine.get(certificate, '*', id))?.status ?? {}
      ground.fail('issuer.issue', HOLIDAY)
      await ground.settle(renewAt - ground.it.clock.now() + 1000)
      return id
    },
    says: /not renewed: the authority does not answer.*; tried again in/,
    free: mend,
  },
  {
    kind: 'certificate',
    state: 'error',
    title: "the installation's own authority fails",
    async stick(ground) {
      await own(ground)
      ground.fail('issuer.issue', new Error('EACCES: permission denied, open /var/lib/arcus/cloud/tls'))
      return await certify(ground)
    },
    says: /not issued: EACCES: permission denied.*tls; tried again in/,
    free: mend,
  },
  {
    kind: 'certificate',
    state: 'error',
    title: 'there is no ACME authority',
    async stick(ground) {
      await own(ground)
      return await certify(ground, { source: 'acme' })
    },
    says: /not issued: no ACME authority is set up; an administrator adds one/,
    free: async (ground) => void (await setUp(ground)),
  },
  {
    kind: 'certificate',
    state: 'error',
    title: 'the ACME account is refused',
    async stick(ground) {
      await own(ground)
      ground.fail('world.register', new CloudError('unavailable', 'the authority refused the account'))
      await setUp(ground)
      await ground.settle()
      return await certify(ground, { source: 'acme' })
    },
    says: /the account of ACME authority authority is not there yet: the authority refused the account/,
    free: mend,
  },
  {
    kind: 'certificate',
    state: 'error',
    title: 'the ACME authority refuses the order',
    async stick(ground) {
      await own(ground)
      await setUp(ground)
      await ground.settle()
      ground.fail('world.issue', new CloudError('unavailable', 'the authority did not accept: rejected'))
      return await certify(ground, { source: 'acme' })
    },
    says: /not issued: the authority did not accept: rejected; tried again in/,
    free: mend,
  },
  {
    kind: 'certificate',
    state: 'error',
    title: 'dns-01 has no token',
    async stick(ground) {
      await own(ground)
      await setUp(ground, { challenge: 'dns-01' })
      await ground.settle()
      return await certify(ground, { source: 'acme' })
    },
    says: /dns-01 needs the Cloudflare token of the provider configuration; an administrator sets it/,
    free: async (ground) => await provide(ground, CLOUDFLARE),
  },
  {
    kind: 'certificate',
    state: 'error',
    title: 'one that was given has expired',
    ended: true,
    async stick(ground) {
      await own(ground)
      const id = await certify(ground, { source: 'given', ...(await ground.it.sign(HOSTNAME)) })
      await ground.settle(91 * DAY_MS)
      return id
    },
    says: /it has expired: give a new one/,
    free: async (ground, id) => await change(ground, certificate, id, await ground.it.sign(HOSTNAME)),
  },
  {
    kind: 'certificate',
    state: 'deleting',
    title: 'the edge is away',
    async stick(ground) {
      await own(ground)
      const id = await certify(ground)
      await ground.settle()
      ground.fail('front', EDGE_AWAY)
      await remove(ground, certificate, id)
      return id
    },
    says: /the edge does not answer at .*edge\.sock/,
    free: mend,
  },
]

const OWNED = 'own.example'
const claim = async (ground: Ground): Promise<string> => await create(ground, domain, OWNED, {})
const prove = async ({ it }: Ground, id: string): Promise<void> => {
  const { spec } = (await it.engine.get(domain, '*', id)) ?? { spec: { challenge: '' } }
  it.world.records.set(`_arcus.${OWNED}`, [`arcus-domain=${spec.challenge}`])
}

const DOMAINS: readonly Case[] = [
  {
    kind: 'domain',
    state: 'pending',
    title: 'its TXT record is not there',
    ended: true,
    stick: claim,
    says: /add to your DNS: _arcus\.own\.example TXT "arcus-domain=[0-9a-f]{32}"; it is looked for every 10 s/,
    free: prove,
  },
  {
    kind: 'domain',
    state: 'error',
    title: 'its DNS does not answer',
    ended: true,
    async stick(ground) {
      ground.fail('world.txt', new CloudError('unavailable', 'its name servers do not answer'))
      return await claim(ground)
    },
    says: /_arcus\.own\.example cannot be looked up: its name servers do not answer/,
    async free(ground, id) {
      ground.mend()
      await prove(ground, id)
    },
  },
  {
    kind: 'domain',
    state: 'error',
    title: 'another tenant proved it before',
    ended: true,
    // Looked at every ten minutes.
    mendedMs: 610_000,
    async stick(ground) {
      const id = await claim(ground)
      const { id: other } = await ground.it.tenant('other')
      await asAdmin(ground, async (verbs) => await verbs.addDomain(other, OWNED))
      await prove(ground, id)
      await ground.settle(11_000)
      return id
    },
    says: /another tenant of this installation holds the domain/,
    async free(ground) {
      const held = (await ground.it.engine.list(domain, { tenant: '*' })).items
      const theirs = held.find((it) => it.tenant !== ground.tenant)
      const caller = await ground.it.cloud.inTenant(ground.it.admin, theirs?.tenant ?? '')
      await ground.it.cloud.act(
        caller,
        'test',
        async (verbs) => await verbs.remove(domain as never, theirs?.id ?? ''),
      )
    },
  },
  {
    kind: 'domain',
    state: 'deleting',
    title: 'a tunnel below it is not let go of by the edge',
    async stick(ground) {
      const id = await led(ground, 'tunnel')
      const [held] = (await ground.it.engine.list(domain, { tenant: ground.tenant })).items
      ground.fail('front', EDGE_AWAY)
      await remove(ground, tunnel, id)
      await remove(ground, domain, held?.id ?? '')
      return held?.id ?? ''
    },
    says: /waits for .*tunnel app/,
    free: mend,
  },
]

const REFUSED = new CloudError('unavailable', 'the authority refused the account: unknown key identifier')
const ACME: readonly Case[] = [
  {
    kind: 'acme',
    state: 'pending',
    title: 'the authority refuses the account',
    async stick(ground) {
      ground.fail('world.register', REFUSED)
      return await setUp(ground)
    },
    says: /the authority refused the account: unknown key identifier/,
    free: mend,
  },
  {
    kind: 'acme',
    state: 'active',
    title: 'the authority does not know the account any more',
    async stick(ground) {
      const id = await setUp(ground)
      await ground.settle()
      ground.fail('world.register', REFUSED)
      await ground.it.engine.wake(`acme/${id}`)
      return id
    },
    says: /the authority refused the account/,
    free: mend,
  },
]

export const TRUST_CASES: readonly Case[] = [...CERTIFICATES, ...DOMAINS, ...ACME]
