import type { Engine } from '#engine/engine.ts'
import type { Everything } from '#engine/everything.ts'
import { certificate, type Certificate } from '#cloud/edge/certificate.kind.ts'
import { route, type Route } from '#cloud/edge/route.kind.ts'
import { tunnel, type Tunnel } from '#cloud/edge/tunnel.kind.ts'
import type { Hostname, Instance, ServedCertificate } from './inside.ts'
import { oldestFirst, type Sight } from './sight.ts'

const shownOf = ({ id, spec, status }: Certificate): NonNullable<Hostname['certificate']> => ({
  id,
  names: status.names ?? spec.names,
  isGiven: spec.source === 'given',
  ...(status.notBefore === undefined ? {} : { notBefore: status.notBefore }),
  ...(status.notAfter === undefined ? {} : { notAfter: status.notAfter }),
})

/** The hostnames that lead to a workload, and the certificates that serve them. */
export function createNames(engine: Engine, everything: Everything, sight: Sight) {
  const leadingTo = async (of: Instance, workload: string): Promise<readonly (Tunnel | Route)[]> => {
    const query = { terms: [`workload:${workload}`], deleted: false }
    const [tunnels, routes] = await Promise.all([
      everything(tunnel, of.tenant.id, query),
      everything(route, of.tenant.id, query),
    ])
    return oldestFirst([...tunnels, ...routes])
  }
  /** The one that is named, else the one that was made for it; none where TLS does not end at the edge. */
  const certificateOf = async (it: Tunnel | Route): Promise<Certificate | undefined> => {
    const named = it.spec.certificate
    if (named !== undefined) return await engine.get(certificate, it.tenant, named)
    const [own] = await everything(certificate, it.tenant, { terms: [`owner:${it.id}`], deleted: false })
    return own
  }
  return {
    async hostnames(of: Instance, id?: string): Promise<readonly Hostname[]> {
      const target = await sight.workloadOf(of, id)
      const all = await leadingTo(of, target.id)
      return await Promise.all(
        all.map(async (it) => {
          const served = await certificateOf(it)
          return {
            hostname: it.spec.hostname,
            by: it,
            vpc: it.spec.vpc,
            workload: target.id,
            ...(served ? { certificate: shownOf(served) } : {}),
            isActive: it.status.state === 'active',
          }
        }),
      )
    },
    async certificates(of: Instance, id?: string): Promise<readonly ServedCertificate[]> {
      const target = await sight.workloadOf(of, id)
      const all = await Promise.all((await leadingTo(of, target.id)).map(certificateOf))
      const once = new Map(all.flatMap((it) => (it ? [[it.id, it] as const] : [])))
      return [...once.values()].flatMap((it) => {
        const key = engine.open(it, 'status.key')
        const { chain, names = it.spec.names } = it.status
        return chain === undefined || key === undefined ? [] : [{ id: it.id, names, chain, key }]
      })
    },
  }
}
