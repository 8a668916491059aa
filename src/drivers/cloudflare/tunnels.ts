import { CloudError } from '#lib/errors.ts'
import type { CloudflareDriver } from '#cloud/edge/cloudflare.driver.ts'
import type { CloudflareApi } from './api.ts'
import { zoneOf } from './records.ts'

type Tunnel = { readonly id: string; readonly name: string; readonly deleted_at?: string | null }
type DnsRecord = { readonly id: string; readonly type: string; readonly content: string }

const targetOf = (id: string): string => `${id}.cfargotunnel.com`

/** Tunnels of an account, their configuration and the DNS records that lead to them. */
export const cloudflareTunnels = (api: CloudflareApi): CloudflareDriver => {
  const recordsOf = async (
    token: string,
    hostname: string,
    signal: AbortSignal,
  ): Promise<{ readonly path: string; readonly records: readonly DnsRecord[] }> => {
    const path = `/zones/${(await zoneOf(api, token, hostname, signal)).id}/dns_records`
    const query = new URLSearchParams({ name: hostname })
    return { path, records: await api.call(token, 'GET', `${path}?${query}`, signal) }
  }
  return {
    async tunnel({ accountId, token }, name, signal) {
      const base = `/accounts/${encodeURIComponent(accountId)}/cfd_tunnel`
      const query = new URLSearchParams({ name, is_deleted: 'false' })
      const found = await api.call<readonly Tunnel[]>(token, 'GET', `${base}?${query}`, signal)
      // Cloudflare's filter also gives names that only begin like it.
      const { id } =
        found.find((it) => it.name === name && !it.deleted_at) ??
        (await api.call<Tunnel>(token, 'POST', base, signal, { name, config_src: 'cloudflare' }))
      return { id, connectorToken: await api.call<string>(token, 'GET', `${base}/${id}/token`, signal) }
    },

    async configure({ accountId, token }, id, ingress, signal) {
      const path = `/accounts/${encodeURIComponent(accountId)}/cfd_tunnel/${id}/configurations`
      await api.call(token, 'PUT', path, signal, {
        config: {
          ingress: [
            ...ingress.map(({ hostname, service, serverName }) => ({
              hostname,
              service,
              originRequest:
                serverName === undefined
                  ? {}
                  : { noTLSVerify: true, originServerName: serverName, httpHostHeader: serverName },
            })),
            { service: 'http_status:404' },
          ],
        },
      })
    },

    async point({ token }, id, hostname, signal) {
      const { path, records } = await recordsOf(token, hostname, signal)
      if (records.some((it) => it.content === targetOf(id))) return
      const [other] = records.filter((it) => ['A', 'AAAA', 'CNAME'].includes(it.type))
      if (other)
        throw new CloudError(
          'already_exists',
          `${hostname} has a DNS record at Cloudflare that leads elsewhere (${other.type} ${other.content}): remove it, or choose another name`,
        )
      await api.call(token, 'POST', path, signal, {
        type: 'CNAME',
        name: hostname,
        content: targetOf(id),
        proxied: true,
      })
    },

    async unpoint({ token }, id, hostname, signal) {
      const { path, records } = await recordsOf(token, hostname, signal)
      for (const it of records)
        if (it.content === targetOf(id)) await api.call(token, 'DELETE', `${path}/${it.id}`, signal)
    },
  }
}
