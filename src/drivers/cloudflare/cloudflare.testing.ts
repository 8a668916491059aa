import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export const TOKEN = 'cf-secret-token'
export const ACCOUNT = 'acc-1'

type Row = Record<string, unknown> & { id: string }
export type Cloudflare = AsyncDisposable & {
  readonly base: string
  readonly tunnels: Row[]
  readonly records: Row[]
  /** Of the zone. */
  readonly nameServers: string[]
  /** What DNS answers for the TXT records of a name. */
  texts(name: string): readonly string[]
  readonly configs: Map<string, unknown>
  /** The next answers in place of the right ones. */
  readonly faults: { status: number; headers?: Record<string, string>; body?: unknown }[]
}

/** A server that speaks the part of Cloudflare's documented API that is used, with one zone. */
export async function cloudflare(name = 'cloud.example'): Promise<Cloudflare> {
  const [tunnels, records]: [Row[], Row[]] = [[], []]
  const nameServers: string[] = []
  const configs = new Map<string, unknown>()
  const faults: Cloudflare['faults'] = []
  let count = 0
  const answer = (method: string, url: URL, body: Record<string, unknown>): [number, unknown] => {
    const { pathname: path, searchParams: query } = url
    const cfd = `/accounts/${ACCOUNT}/cfd_tunnel`
    if (path === '/zones')
      return [200, query.get('name') === name ? [{ id: 'zone-1', name, name_servers: nameServers }] : []]
    if (path === cfd && method === 'GET')
      return [200, tunnels.filter((it) => String(it['name']).startsWith(query.get('name') ?? ''))]
    if (path === cfd && method === 'POST') {
      const made = { ...body, id: `tunnel-${++count}` }
      tunnels.push(made)
      return [200, made]
    }
    const [, id = '', what = ''] = /^\/accounts\/acc-1\/cfd_tunnel\/([^/]+)\/(\w+)$/.exec(path) ?? []
    if (what === 'token') return [200, `token-of-${id}`]
    if (what === 'configurations' && method === 'PUT') {
      configs.set(id, body['config'])
      return [200, {}]
    }
    if (path === '/zones/zone-1/dns_records' && method === 'GET') {
      const type = query.get('type')
      return [200, records.filter((it) => it['name'] === query.get('name') && (!type || it['type'] === type))]
    }
    if (path === '/zones/zone-1/dns_records' && method === 'POST') {
      const made = { ...body, id: `record-${++count}` }
      records.push(made)
      return [200, made]
    }
    const at = records.findIndex((it) => path === `/zones/zone-1/dns_records/${it.id}`)
    if (at >= 0 && method === 'DELETE') return [200, records.splice(at, 1)[0]]
    return [404, undefined]
  }
  const server = createServer((request, response) => {
    void (async () => {
      const chunks: Buffer[] = []
      for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
      const text = Buffer.concat(chunks).toString()
      const send = (status: number, body: unknown, headers: Record<string, string> = {}): void =>
        void response
          .writeHead(status, { 'content-type': 'application/json', ...headers })
          .end(JSON.stringify(body))
      const fault = faults.shift()
      if (fault)
        return send(
          fault.status,
          fault.body ?? { success: false, errors: [{ code: 10_000, message: 'on purpose' }] },
          fault.headers,
        )
      if (request.headers.authorization !== `Bearer ${TOKEN}`)
        return send(403, { success: false, errors: [{ code: 9109, message: 'Invalid access token' }] })
      const url = new URL(request.url ?? '/', 'http://cloudflare')
      const [status, result] = answer(request.method ?? '', url, text ? JSON.parse(text) : {})
      send(status, { success: status === 200, errors: [], result })
    })()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    base: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    tunnels,
    records,
    nameServers,
    texts: (name) =>
      records
        .filter((it) => it['type'] === 'TXT' && it['name'] === name)
        .map((it) => String(it['content']).replaceAll('"', '')),
    configs,
    faults,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
