/** An IPv4 network: first address and prefix length; host bits are zero. */
export type Cidr = { readonly base: number; readonly prefix: number }

const OCTET = /^(0|[1-9]\d{0,2})$/

/** The address as an unsigned 32-bit number, undefined when the text is no dotted IPv4 address. */
export function parseIpv4(text: string): number | undefined {
  const parts = text.split('.')
  if (parts.length !== 4) return undefined
  let value = 0
  for (const part of parts) {
    if (!OCTET.test(part) || Number(part) > 255) return undefined
    value = value * 256 + Number(part)
  }
  return value
}

export const formatIpv4 = (value: number): string =>
  [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.')

/** The number of addresses in a network. */
export const sizeOf = (cidr: Cidr): number => 2 ** (32 - cidr.prefix)

export const lastOf = (cidr: Cidr): number => cidr.base + sizeOf(cidr) - 1

/** A network whose host bits are zero; undefined for anything else. */
export function parseCidr(text: string): Cidr | undefined {
  const [address = '', prefixText = '', ...rest] = text.split('/')
  const base = parseIpv4(address)
  if (base === undefined || rest.length || !/^(0|[1-9]\d?)$/.test(prefixText)) return undefined
  const prefix = Number(prefixText)
  if (prefix > 32 || base % 2 ** (32 - prefix) !== 0) return undefined
  return { base, prefix }
}

/** Like parseCidr, for text known to be good; throws when it is not. */
export function cidr(text: string): Cidr {
  const parsed = parseCidr(text)
  if (!parsed) throw new Error(`not an IPv4 network: ${text}`)
  return parsed
}

export const formatCidr = (it: Cidr): string => `${formatIpv4(it.base)}/${it.prefix}`

export const contains = (outer: Cidr, address: number): boolean =>
  address >= outer.base && address <= lastOf(outer)

/** True when every address of `inner` is one of `outer`. */
export const within = (outer: Cidr, inner: Cidr): boolean =>
  inner.prefix >= outer.prefix && contains(outer, inner.base)

export const overlaps = (a: Cidr, b: Cidr): boolean => a.base <= lastOf(b) && b.base <= lastOf(a)

/** True for an address a machine of the network may have: not the network's own and not its broadcast address. */
export const isUsable = (network: Cidr, address: number): boolean =>
  contains(network, address) &&
  (network.prefix >= 31 || (address !== network.base && address !== lastOf(network)))

/**
 * The next usable address after `after` that is not in `taken`, going round once; undefined when none is free.
 * Going on from the last one given lets a freed address rest and keeps concurrent callers apart.
 */
export function nextFree(
  network: Cidr,
  taken: (address: number) => boolean,
  after = network.base,
): number | undefined {
  const size = sizeOf(network)
  const start = contains(network, after) ? after - network.base : 0
  for (let step = 1; step <= size; step++) {
    const address = network.base + ((start + step) % size)
    if (isUsable(network, address) && !taken(address)) return address
  }
  return undefined
}
