import { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { createSecureContext } from 'node:tls'
import Type from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import { CloudError, messageOf } from '#lib/errors.ts'
import type { Front, FrontCertificate } from '#cloud/edge/front.driver.ts'

const ROUTES_MAX = 5000
const ORIGINS_MAX = 10_000
const WEIGHT_MAX = 1_000_000
const PEM_CHARS_MAX = 65_536
const NAMES_MAX = 100
const CHALLENGES_MAX = 100

const LABEL = '[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?'
const Id = Type.String({ pattern: '^[A-Za-z0-9_-]{1,64}$' })
const Hostname = Type.String({ pattern: `^(\\*\\.)?${LABEL}(\\.${LABEL})*$`, maxLength: 253 })
const Generation = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })
const Port = Type.Integer({ minimum: 1, maximum: 65_535 })
const closed = { additionalProperties: false } as const

const OriginSchema = Type.Object(
  {
    id: Id,
    address: Type.String({ maxLength: 45 }),
    port: Port,
    weight: Type.Number({ minimum: 0, maximum: WEIGHT_MAX }),
  },
  closed,
)
const RouteSchema = Type.Object(
  {
    id: Id,
    hostname: Hostname,
    pathPrefix: Type.String({ pattern: '^/([^/?#\\s%]+(/[^/?#\\s%]+)*)?$', maxLength: 1024 }),
    stripPrefix: Type.Boolean(),
    carry: Type.Union(
      (['http', 'https', 'passthrough', 'stream', 'datagram', 'tcp'] as const).map((it) => Type.Literal(it)),
    ),
    plain: Type.Boolean(),
    certificate: Type.Optional(Id),
    port: Type.Optional(Port),
    least: Type.Optional(Type.Literal(true)),
    origins: Type.Array(OriginSchema, { maxItems: ORIGINS_MAX }),
  },
  closed,
)
const FrontSchema = Type.Object(
  {
    vpc: Id,
    tenant: Type.String({ maxLength: 64 }),
    generation: Generation,
    routes: Type.Array(RouteSchema, { maxItems: ROUTES_MAX }),
  },
  closed,
)
const Pem = Type.String({ maxLength: PEM_CHARS_MAX })
const CertificateSchema = Type.Object(
  {
    id: Id,
    tenant: Type.String({ maxLength: 64 }),
    generation: Generation,
    issued: Type.Optional(
      Type.Object({ names: Type.Array(Hostname, { maxItems: NAMES_MAX }), chain: Pem, key: Pem }, closed),
    ),
    challenges: Type.Array(
      Type.Object(
        {
          hostname: Hostname,
          token: Type.String({ pattern: '^[A-Za-z0-9_-]{1,256}$' }),
          answer: Type.String({ pattern: '^[A-Za-z0-9_.-]{1,512}$' }),
        },
        closed,
      ),
      { maxItems: CHALLENGES_MAX },
    ),
  },
  closed,
)
const checkFront = Compile(FrontSchema)
const checkCertificate = Compile(CertificateSchema)

const invalid = (what: string, field: string): CloudError => new CloudError('invalid', what, { field })

function checkShape(check: Pick<Validator, 'Check' | 'Errors'>, value: unknown, what: string): void {
  if (check.Check(value)) return
  const [first] = check.Errors(value)
  const field = first ? first.instancePath.slice(1).replaceAll('/', '.') : ''
  throw invalid(`${what}: ${first?.message ?? 'wrong shape'}`, field)
}

/** Checks a front that came from outside this process; throws `invalid` naming what is wrong. */
export function parseFront(value: unknown): Front {
  checkShape(checkFront, value, 'front')
  const front = value as Front
  const ids = new Set<string>()
  for (const { id, carry, port, least, pathPrefix, origins } of front.routes) {
    if (ids.has(id)) throw invalid(`two routes have the id ${id}`, 'routes')
    ids.add(id)
    if ((carry === 'datagram' || carry === 'tcp') !== (port !== undefined))
      throw invalid(`route ${id}: a port is for datagrams and TCP, and for them alone`, 'port')
    if (least && carry !== 'tcp') throw invalid(`route ${id}: only TCP goes to the least busy`, 'least')
    const isHttp = carry === 'http' || carry === 'https'
    if (!isHttp && pathPrefix !== '/') throw invalid(`route ${id}: only HTTP has paths`, 'pathPrefix')
    for (const it of origins)
      if (!isIP(it.address)) throw invalid(`route ${id}: not an address: ${it.address}`, 'origins')
  }
  return front
}

/** Checks a certificate that came from outside this process: its form, and that chain and key belong together. */
export function parseCertificate(value: unknown): FrontCertificate {
  checkShape(checkCertificate, value, 'certificate')
  const certificate = value as FrontCertificate
  if (certificate.issued) {
    const { chain, key } = certificate.issued
    try {
      createSecureContext({ cert: chain, key })
      void new X509Certificate(chain)
    } catch (error) {
      throw invalid(
        `certificate ${certificate.id}: chain and key cannot be used: ${messageOf(error)}`,
        'issued',
      )
    }
  }
  return certificate
}
