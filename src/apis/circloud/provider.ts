import Type, { type Static } from 'typebox'
import { contains, overlaps, parseCidr, parseIpv4 } from '#lib/cidr.ts'
import { CloudError } from '#lib/errors.ts'
import type { Cloud, Verbs } from '#cloud/cloud.ts'
import { provider, type Provider as Resource } from '#cloud/network/provider.kind.ts'
import type { Doors } from './doors.ts'
import { CidrText, Ipv4, Nullable, refusals, said, timestamp, Timestamp, type App } from './schema.ts'

/** Stands for a token that is stored; sent back it keeps it. */
const MASK = '********'

const ProviderConfigInput = Type.Object(
  {
    external_subnet_cidr: CidrText('Pool for SNAT and external IPs.'),
    external_subnet_gateway: Type.String({
      format: 'ipv4',
      description: 'Must lie inside external_subnet_cidr.',
    }),
    peering_subnet_cidr: CidrText(
      'Link between VPCs and core services; must not overlap the external subnet.',
    ),
    pod_dns_nameservers: Type.Optional(Type.Array(Ipv4, { default: [], maxItems: 16 })),
    pod_dns_ndots: Type.Optional(Nullable(Type.Integer({ minimum: 0, maximum: 15 }), { default: null })),
    cloudflare_account_id: Type.Optional(Nullable(Type.String({ maxLength: 256 }), { default: null })),
    cloudflare_api_token: Type.Optional(
      Nullable(Type.String({ maxLength: 1024 }), {
        default: null,
        description: 'Secret; sending the mask back keeps the stored value.',
        writeOnly: true,
      }),
    ),
    cloudflare_domain: Type.Optional(
      Nullable(Type.String({ maxLength: 253 }), {
        default: null,
        description: 'Domain of tunnels that name none.',
      }),
    ),
  },
  {
    examples: [
      {
        external_subnet_cidr: '203.0.113.0/24',
        external_subnet_gateway: '203.0.113.1',
        peering_subnet_cidr: '172.30.0.0/24',
        pod_dns_nameservers: ['1.1.1.1', '8.8.8.8'],
        pod_dns_ndots: 2,
        cloudflare_account_id: 'acc-1',
        cloudflare_api_token: 'cf-token',
        cloudflare_domain: 'yourdomain.com',
      },
    ],
  },
)
const ProviderConfig = Type.Object({
  external_subnet_cidr: CidrText(),
  external_subnet_gateway: Ipv4,
  peering_subnet_cidr: CidrText(),
  pod_dns_nameservers: Type.Array(Ipv4),
  pod_dns_ndots: Nullable(Type.Integer()),
  cloudflare_account_id: Nullable(Type.String()),
  cloudflare_api_token: Nullable(Type.Literal(MASK), {
    description: 'Eight asterisks when a token is stored, null when none is.',
  }),
  cloudflare_domain: Nullable(Type.String()),
  updated_at: Type.Optional(Timestamp),
})

/** The configuration as this API shows it. A stored token is left out of what the cloud gives; none is an empty text. */
export const encodeProvider = ({ spec, updatedAt }: Resource): Static<typeof ProviderConfig> => ({
  external_subnet_cidr: spec.externalCidr,
  external_subnet_gateway: spec.externalGateway,
  peering_subnet_cidr: spec.peeringCidr,
  pod_dns_nameservers: [...spec.nameservers],
  pod_dns_ndots: spec.ndots,
  cloudflare_account_id: spec.cloudflareAccountId,
  cloudflare_api_token: spec.cloudflareToken === '' ? null : MASK,
  cloudflare_domain: spec.cloudflareDomain,
  updated_at: timestamp(updatedAt),
})

const invalid = (field: string, message: string): CloudError => new CloudError('invalid', message, { field })

/** The input of the verb; optional fields left out return to their defaults, the mask keeps the stored token. */
export function decodeProvider(
  body: Static<typeof ProviderConfigInput>,
): Parameters<Verbs['putProvider']>[0] {
  const external = parseCidr(body.external_subnet_cidr)
  const peering = parseCidr(body.peering_subnet_cidr)
  if (!external) throw invalid('external_subnet_cidr', 'must be an IPv4 network with its host bits zero')
  if (!peering) throw invalid('peering_subnet_cidr', 'must be an IPv4 network with its host bits zero')
  if (!contains(external, parseIpv4(body.external_subnet_gateway) ?? -1))
    throw invalid('external_subnet_gateway', 'must lie inside external_subnet_cidr')
  if (overlaps(external, peering))
    throw invalid('peering_subnet_cidr', 'must not overlap external_subnet_cidr')
  const token = body.cloudflare_api_token ?? ''
  return {
    externalCidr: body.external_subnet_cidr,
    externalGateway: body.external_subnet_gateway,
    peeringCidr: body.peering_subnet_cidr,
    nameservers: body.pod_dns_nameservers ?? [],
    ndots: body.pod_dns_ndots ?? null,
    cloudflareAccountId: body.cloudflare_account_id ?? null,
    cloudflareDomain: body.cloudflare_domain ?? null,
    ...(token === MASK ? {} : { cloudflareToken: token }),
  }
}

const common = { tags: ['provider'], security: [{ AdminToken: [] }] }

export function providerRoutes(app: App, cloud: Cloud, { callerOf }: Doors): void {
  app.post(
    '/provider-config',
    {
      schema: {
        ...common,
        operationId: 'putProviderConfig',
        summary: 'Create or replace the provider configuration',
        description: 'A singleton. Optional fields left out return to their defaults.',
        body: ProviderConfigInput,
        response: {
          200: said(ProviderConfig, 'An existing configuration was replaced.'),
          201: said(ProviderConfig, 'The configuration was created.'),
          ...refusals(400, 401, 409),
        },
      },
    },
    async (request, reply) => {
      const input = decodeProvider(request.body)
      const put = await cloud.act(callerOf(request), 'circloud.provider.put', (verbs) =>
        verbs.putProvider(input),
      )
      return reply.code(put.created ? 201 : 200).send(encodeProvider(put.provider))
    },
  )
  app.get(
    '/provider-config',
    {
      schema: {
        ...common,
        operationId: 'getProviderConfig',
        summary: 'Read the provider configuration',
        response: {
          200: said(ProviderConfig, 'Current configuration; the Cloudflare token is masked.'),
          ...refusals(401, 404),
        },
      },
    },
    async (request, reply) => {
      const [it] = await cloud.all(callerOf(request), provider, { deleted: false })
      if (!it) throw new CloudError('not_found', 'The provider is not configured yet')
      return reply.code(200).send(encodeProvider(it))
    },
  )
}
