import type { Hostname, ServedCertificate } from '#cloud/cloud.ts'
import { objectId } from '#lib/object-id.ts'
import { NO_ID } from './place.ts'
import type { Certificate, DnsRecord } from './schema/record.ts'
import { creatorOf, lifetimeOf, timeOf } from './wire.ts'

/** What a tunnel or route says that a record shows, as far as each of the two has it. */
type Leading = {
  readonly protocol: string
  readonly pathPrefix?: string
  /** Id of the domain that the hostname is below. */
  readonly under?: string
}

/** The hostname of a tunnel or route as a LINKED record that leads to the container. */
export function encodeRecord(it: Hostname): DnsRecord {
  const { protocol, pathPrefix, under } = it.by.spec as Leading
  const [name = ''] = it.hostname.split('.')
  const { certificate } = it
  return {
    id: objectId(it.by.id),
    hub_id: objectId(it.by.tenant),
    creator: creatorOf(it.by),
    zone_id: under === undefined ? NO_ID : objectId(under),
    name,
    resolved_domain: it.hostname,
    type: {
      linked: {
        routing: {
          http: pathPrefix === undefined || pathPrefix === '/' ? null : { match_path: pathPrefix },
        },
        features: {
          tls: { enable: protocol !== 'udp' },
          geodns: { enable: false },
          wildcard: name === '*' ? { resolve_sub_domains: true } : null,
        },
        container_id: objectId(it.workload),
        deployment: null,
      },
    },
    features: {
      certificate: certificate
        ? {
            id: objectId(certificate.id),
            generated: timeOf(certificate.notBefore),
            wildcard_child: certificate.names.every((one) => one !== it.hostname),
            user_supplied: certificate.isGiven,
            ...(certificate.notAfter === undefined ? {} : { expires: timeOf(certificate.notAfter) }),
          }
        : null,
    },
    state: { current: it.isActive ? 'live' : 'pending', changed: timeOf(it.by.updatedAt) },
    events: lifetimeOf(it.by),
  }
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/g

/** With its key: this API is there so that a workload can serve TLS itself. */
export const encodeCertificate = (it: ServedCertificate, tenant: string): Certificate => ({
  id: objectId(it.id),
  domains: [...it.names],
  private_key: it.key,
  bundle: it.chain,
  csr: '',
  issuer_certificate: (it.chain.match(CERTIFICATE) ?? []).slice(1).join(''),
  hub_id: objectId(tenant),
})
