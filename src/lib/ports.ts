/** Ports from the first to the last, both included. */
export type PortRange = { readonly from: number; readonly to: number }

/** A port of one protocol. */
export type Port = { readonly protocol: 'tcp' | 'udp'; readonly port: number }

const PORT_MAX = 65_535

/** Below the ports that kernels give to outgoing connections, and those that Kubernetes publishes by. */
export const PUBLISHED_PORTS_DEFAULT: PortRange = { from: 30_000, to: 32_767 }

/** Reads `FROM-TO`; undefined for what is no range of ports. */
export function parsePortRange(text: string): PortRange | undefined {
  const [, from, to] = /^(\d{1,5})-(\d{1,5})$/.exec(text) ?? []
  const range = { from: Number(from), to: Number(to) }
  return from !== undefined && range.from >= 1 && range.from <= range.to && range.to <= PORT_MAX
    ? range
    : undefined
}

export const inRange = ({ from, to }: PortRange, port: number): boolean => port >= from && port <= to

/** `tcp/80`. */
export const portKey = ({ protocol, port }: Port): string => `${protocol}/${port}`
