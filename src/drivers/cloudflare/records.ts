import type { Clock } from '#lib/clock.ts'
import { CloudError, isCloudError } from '#lib/errors.ts'
import type { TxtRecords } from '#cloud/edge/issuer.driver.ts'
import type { CloudflareApi } from './api.ts'

const TTL_SECONDS = 60
/** How long a new record may take to reach the name servers of its zone; after it the authority is left to look. */
const SPREAD_MS_MAX = 30_000
const SPREAD_LOOK_MS = 1000

type Zone = { readonly id: string; readonly name: string; readonly name_servers?: readonly string[] }
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

/** TXT records of a name as one name server has them, asked by its own name; throws when it does not answer. */
export type TextsAt = (server: string, record: string, signal: AbortSignal) => Promise<readonly string[]>

/** TXT records of zones at Cloudflare. One that is put is waited for at the zone's name servers, as far as they answer. */
export const cloudflareRecords = (api: CloudflareApi, clock: Clock, textsAt: TextsAt): TxtRecords => {
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
  /** An authority that looks before it is there counts a failure, of which few are allowed. */
  const spread = async (
    { name_servers: servers = [] }: Zone,
    { record, value }: { record: string; value: string },
    signal: AbortSignal,
  ): Promise<void> => {
    const until = clock.now() + SPREAD_MS_MAX
    const hasIt = async (server: string): Promise<boolean> => {
      const texts = await textsAt(server, record, signal).catch(() => undefined)
      signal.throwIfAborted()
      return texts === undefined || texts.includes(value)
    }
    await Promise.all(
      servers.map(async (server) => {
        while (!(await hasIt(server)) && clock.now() < until) await clock.sleep(SPREAD_LOOK_MS, signal)
      }),
    )
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
      await spread(zone, { record, value }, signal)
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
