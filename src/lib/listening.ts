import { readFile } from 'node:fs/promises'
import type { Port } from './ports.ts'

const LISTENING = '0A'
const NOBODY = /^0+:0000$/

/**
 * Ports that a table of sockets of the kernel's (`/proc/net/tcp`, `udp6`, …) has somebody listen on, at whatever address;
 * of datagrams those of sockets without a peer.
 */
export function parseSockets(text: string, protocol: Port['protocol']): Port[] {
  return text
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [, local = '', peer = '', state] = line.trim().split(/\s+/)
      const port = Number.parseInt(local.split(':')[1] ?? '', 16)
      const isListening = protocol === 'tcp' ? state === LISTENING : NOBODY.test(peer)
      return isListening && port > 0 ? [{ protocol, port }] : []
    })
}

const TABLES = [
  ['tcp', 'tcp'],
  ['tcp6', 'tcp'],
  ['udp', 'udp'],
  ['udp6', 'udp'],
] as const

/** Every port that a program of this machine listens on, at whatever address. A kernel without IPv6 lacks two of the tables. */
export async function listeningPorts(): Promise<Port[]> {
  const tables = await Promise.all(
    TABLES.map(async ([name, protocol]) =>
      parseSockets(await readFile(`/proc/net/${name}`, 'utf8').catch(() => ''), protocol),
    ),
  )
  return tables.flat()
}
