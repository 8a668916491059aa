import { BlockList, isIPv6 } from 'node:net'

/** A packet as a chain of the forward hook sees it, after translation of its destination. */
export type Packet = {
  readonly iifname: string
  readonly oifname: string
  readonly source: string
  readonly destination: string
  /** Before translation; the same as `destination` when there was none. */
  readonly original: string
  readonly protocol: 'tcp' | 'udp' | 'icmp'
  readonly port: number
}

/** `snat ADDRESS` where a source is translated. */
type Verdict = 'accept' | 'drop' | 'reject' | `snat ${string}`
type Chain = { readonly lines: readonly string[]; readonly policy: Verdict }

/** A table as text, taken apart: what this program writes, not all that nftables can read. */
export type Table = {
  readonly chains: ReadonlyMap<string, Chain>
  readonly sets: ReadonlyMap<string, ReadonlyMap<string, string>>
}

export function parseTable(text: string): Table {
  const sets = new Map<string, ReadonlyMap<string, string>>()
  for (const [, name = '', body = ''] of text.matchAll(/^ {2}(?:set|map) ([\w-]+) \{(.*)\}$/gm)) {
    const elements = /elements = \{ (.*) \}/.exec(body)?.[1]?.split(', ') ?? []
    sets.set(name, new Map(elements.map((it) => it.split(' : ') as [string, string])))
  }
  const chains = new Map<string, Chain>()
  for (const [, name = '', body = ''] of text.matchAll(/^ {2}chain ([\w-]+) \{\n([\s\S]*?)^ {2}\}$/gm)) {
    const lines = body.split('\n').map((it) => it.trim())
    const policy = /policy (\w+);/.exec(body)?.[1] as Verdict | undefined
    chains.set(name, {
      lines: lines.filter((it) => it && !it.startsWith('type ')),
      policy: policy ?? 'accept',
    })
  }
  return { chains, sets }
}

const protocolName = ({ protocol, source }: Packet): string =>
  protocol === 'icmp' && isIPv6(source) ? 'ipv6-icmp' : protocol

export const inNetwork = (network: string, address: string): boolean => {
  const [base = '', prefix] = network.split('/')
  if (isIPv6(base) !== isIPv6(address)) return false
  if (prefix === undefined) return base === address
  const list = new BlockList()
  list.addSubnet(base, Number(prefix), isIPv6(base) ? 'ipv6' : 'ipv4')
  return list.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')
}

/** What a map has for an address: its own element, or that of the network it lies in. */
function elementOf(table: Table, map: string, address: string): string | undefined {
  const elements = table.sets.get(map)
  const network = [...(elements?.keys() ?? [])].find((it) => it.includes('/') && inNetwork(it, address))
  return elements?.get(address) ?? (network === undefined ? undefined : elements?.get(network))
}

type Match = readonly [pattern: RegExp, holds: (packet: Packet, ...groups: (string | undefined)[]) => boolean]

const WORD = '(@[\\w-]+|\\{[^}]*\\}|"[^"]*"|[\\w.:/-]+)'
const listed = (text = ''): string[] =>
  text
    .replace(/[{}]/g, '')
    .split(',')
    .map((it) => it.trim())

/** The matches that our rules are made of, each at the start of what is left of a rule. */
function matchesOf(table: Table): Match[] {
  const elementsOf = (set: string): string[] => [...(table.sets.get(set)?.keys() ?? [])]
  const isIn = (operand = '', address: string): boolean =>
    operand.startsWith('@')
      ? elementsOf(operand.slice(1)).some((it) => inNetwork(it, address))
      : listed(operand).some((it) => inNetwork(it, address))
  /** Of the kinds of fields that our sets have, whether an element holds a packet's. */
  const holdsField: Readonly<Record<string, (packet: Packet, element: string) => boolean>> = {
    'ip saddr': (it, network) => inNetwork(network, it.source),
    'ip daddr': (it, network) => inNetwork(network, it.destination),
    'ip6 saddr': (it, network) => inNetwork(network, it.source),
    'ip6 daddr': (it, network) => inNetwork(network, it.destination),
    'meta l4proto': (it, protocol) => protocolName(it) === protocol,
    // Of what has no ports the bytes in their place, which can be any.
    'th dport': (it, range) => {
      const [from, to = from] = range.split('-').map(Number)
      const port = it.protocol === 'icmp' ? 0xbeef : it.port
      return port >= Number(from) && port <= Number(to)
    },
  }
  const FIELD = '(?:ip6? [sd]addr|meta l4proto|th dport)'
  return [
    [
      new RegExp(`^(${FIELD}(?: \\. ${FIELD})+) @([\\w-]+) `),
      (it, fields = '', set = '') =>
        elementsOf(set).some((element) => {
          const values = element.split(' . ')
          return fields.split(' . ').every((field, at) => holdsField[field]?.(it, values[at] ?? ''))
        }),
    ],
    [/^meta nfproto (ipv4|ipv6) /, (it, family) => isIPv6(it.source) === (family === 'ipv6')],
    // Every packet here begins a flow.
    [/^ct state (?:established,related|invalid) /, () => false],
    [/^ct status & dnat == 0 /, (it) => it.original === it.destination],
    [/^ct status dnat /, (it) => it.original !== it.destination],
    [new RegExp(`^ct original ip daddr ${WORD} `), (it, operand) => isIn(operand, it.original)],
    // Only destinations are translated before a packet comes here.
    [new RegExp(`^ct original ip saddr ${WORD} `), (it, operand) => isIn(operand, it.source)],
    [
      /^tcp dport (\d+)-(\d+) /,
      (it, from, to) =>
        protocolName(it) === 'tcp' &&
        it.port !== undefined &&
        it.port >= Number(from) &&
        it.port <= Number(to),
    ],
    [/^([io])ifname "([^"]*)" /, (it, side, name) => (side === 'i' ? it.iifname : it.oifname) === name],
    [
      new RegExp(`^(ip6?) ([sd])addr (?!vmap )(!= )?${WORD} `),
      (it, family, side, not, operand) =>
        (family === 'ip6') === isIPv6(it.source) &&
        isIn(operand, side === 's' ? it.source : it.destination) === !not,
    ],
    [/^meta l4proto (\{[^}]*\}|\w+) /, (it, names) => listed(names).includes(protocolName(it))],
    [/^th dport (\d+) /, (it, port) => it.port === Number(port)],
  ]
}

// Deeper than any table of ours leads.
const DEPTH_MAX = 16

/** What the table's chain does with a packet; throws for a rule that it cannot read, so that none is passed over. */
export function verdictOf(table: Table, name: string, packet: Packet): Verdict {
  const matches = matchesOf(table)

  /** What is left of a rule when the packet has all its matches. */
  function actionOf(line: string): string | undefined {
    let rest = line
    for (;;) {
      const match = matches.find(([pattern]) => pattern.test(rest))
      if (!match) return rest
      const groups = match[0].exec(rest) ?? ['']
      if (!match[1](packet, ...groups.slice(1))) return undefined
      rest = rest.slice(groups[0].length)
    }
  }

  /** The verdict in an action; undefined when the packet goes on with the next rule. */
  function act(action: string, depth: number): Verdict | undefined | 'end' {
    if (action === 'accept' || action === 'drop') return action
    if (action.startsWith('reject ')) return 'reject'
    const [, to] = /^snat ip6? to ([\d.]+)$/.exec(action) ?? []
    if (to) return `snat ${to}`
    const [, sources = ''] = /^snat ip to ip saddr map @(\w+)$/.exec(action) ?? []
    if (sources) {
      const by = table.sets.get(sources)?.get(packet.source)
      return by === undefined ? undefined : `snat ${by}`
    }
    if (/^snat ip6? to ip6? saddr \. /.test(action)) {
      const [, pairs = ''] = / map @(\w+)$/.exec(action) ?? []
      const by = table.sets.get(pairs)?.get(`${packet.source} . ${packet.destination}`)
      return by === undefined ? undefined : `snat ${by}`
    }
    const [, verb, chain = ''] = /^(goto|jump) ([\w-]+)$/.exec(action) ?? []
    if (verb) return walk(chain, depth + 1) ?? (verb === 'goto' ? 'end' : undefined)
    const [, family, side, map = ''] = /^(ip6?) ([sd])addr vmap @(\w+)$/.exec(action) ?? []
    if (!family) throw new Error(`cannot read: ${action}`)
    if ((family === 'ip6') !== isIPv6(packet.source)) return undefined
    const led = elementOf(table, map, side === 's' ? packet.source : packet.destination)
    return led === undefined ? undefined : act(led, depth)
  }

  function walk(chain: string, depth: number): Verdict | undefined {
    const found = table.chains.get(chain)
    if (!found || depth > DEPTH_MAX) throw new Error(`no chain ${chain}, or too deep`)
    for (const line of found.lines) {
      const action = actionOf(line)
      if (action === undefined) continue
      const verdict = act(action, depth)
      if (verdict === 'end') return undefined
      if (verdict) return verdict
    }
    return undefined
  }
  return walk(name, 0) ?? table.chains.get(name)?.policy ?? 'drop'
}
