import { existsSync, readFileSync } from 'node:fs'
import { cidr, contains, parseCidr, parseIpv4 } from '#lib/cidr.ts'

/** Those of the host's routes that one of the platform's ranges overlaps; such a range would cut the host off. */
export function clashes(ranges: readonly string[], routes: readonly string[]): readonly string[] {
  const own = ranges.map(cidr)
  return routes.filter((text) => {
    const route = parseCidr(text)
    if (!route || route.prefix === 0) return false
    // Routes inside the ranges are Arcus's own; one that contains or equals a range belongs to the host.
    return own.some((it) => contains(route, it.base) && route.prefix <= it.prefix)
  })
}

/** The host's IPv4 routes as CIDRs, of the links that are wanted. */
export function hostRoutes(
  path = '/proc/net/route',
  isWanted: (link: string) => boolean = () => true,
): readonly string[] {
  if (!existsSync(path)) return []
  return readFileSync(path, 'utf8')
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [link = '', destination, , , , , , mask] = line.split('\t')
      if (!destination || !mask || !isWanted(link)) return []
      const bytes = (hex: string): string =>
        (hex.match(/../g) ?? [])
          .toReversed()
          .map((it) => parseInt(it, 16))
          .join('.')
      const bits = (parseIpv4(bytes(mask)) ?? 0).toString(2).replaceAll('0', '').length
      return [`${bytes(destination)}/${bits}`]
    })
}
