import { CloudError, isCloudError } from '#lib/errors.ts'
import type { TxtRecords } from '#cloud/edge/issuer.driver.ts'
import type { CloudflareApi } from './api.ts'

const TTL_SECONDS = 60

type Zone = { readonly id: string; readonly name: string }
type DnsRecord = { readonly id: string; readonly content: string }

/** The zone of a name: that of its longest suffix which the token may see. */
export async function zoneOf(
  api: CloudflareApi,
  token: string,
  name: string,
  signal: AbortSignal,
): Promise<Zone> {
  for (let suffix = name; suffix.includes('.'); suffix = suffix.slice(suffix.indexOf('.') + 1)) {
    const query = new URLSearchParams({ name: suffix })
    const [zone] = await api.call<readonly Zone[]>(token, 'GET', `/zones?${query}`, signal)
    if (zone) return zone
  }
  throw new CloudError('not_found', `the Cloudflare token sees no zone of ${name}`)
}

/** TXT records of zones at Cloudflare. */
export const cloudflareRecords = (api: CloudflareApi): TxtRecords => {
  const find = async (
    token: string,
    zone: string,
    { record, value }: { record: string; value: string },
    signal: AbortSignal,
  ): Promise<DnsRecord | undefined> => {
    const query = new URLSearchParams({ type: 'TXT', name: record })
    const path = `/zones/${zone}/dns_records?${query}`
    const all = await api.call<readonly DnsRecord[]>(token, 'GET', path, signal)
    // Cloudflare shows the quotes of a TXT record.
    return all.find((it) => it.content.replaceAll('"', '') === value)
  }
  return {
    async put({ token }, record, value, signal) {
      const zone = await zoneOf(api, token, record, signal)
      if (await find(token, zone.id, { record, value }, signal)) return
      await api.call(token, 'POST', `/zones/${zone.id}/dns_records`, signal, {
        type: 'TXT',
        name: record,
        content: `"${value}"`,
        ttl: TTL_SECONDS,
      })
    },
    async remove({ token }, record, value, signal) {
      const zone = await zoneOf(api, token, record, signal)
      const held = await find(token, zone.id, { record, value }, signal)
      if (!held) return
      try {
        await api.call(token, 'DELETE', `/zones/${zone.id}/dns_records/${held.id}`, signal)
      } catch (error) {
        if (!isCloudError(error, 'not_found')) throw error
      }
    },
  }
}
