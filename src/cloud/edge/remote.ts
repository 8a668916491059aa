import { CloudError } from '#lib/errors.ts'
import { createFence } from '#lib/fence.ts'
import { ALL, PLATFORM } from '#engine/resource.ts'
import type { Draft } from '#engine/draft.ts'
import type { Look } from '#engine/reconcile.ts'
import { replica, serves } from '#cloud/compute/replica.kind.ts'
import { provider, type Provider } from '#cloud/network/provider.kind.ts'
import type { CloudflareAccess, CloudflareDriver, ConnectorDriver, Ingress } from './cloudflare.driver.ts'
import { isRemote } from './front.ts'
import { tunnel, type Tunnel } from './tunnel.kind.ts'

/**
 * The tunnels that Cloudflare carries: one tunnel of the installation at Cloudflare, whose ingress is derived whole from
 * all of ours, a DNS record for each, and a connector beside the edge. HTTP goes on through the edge, which balances,
 * drains and counts; other protocols go straight to a replica.
 */
export type RemoteTunnels = {
  /** True when Cloudflare carries it, by the provider configuration of now; without access the connector is ended. */
  carries(it: Tunnel, look: Look): Promise<boolean>
  /** Brings ingress, DNS record and connector up to date; why it is not there yet, or undefined when it is. */
  keep(it: Tunnel, look: Look): Promise<string | undefined>
  /** Takes the DNS record and the ingress of one that is going away. */
  drop(it: Tunnel, look: Look): Promise<void>
}

export type RemoteTools = {
  readonly cloudflare: CloudflareDriver
  readonly connector: ConnectorDriver
  /** Port of the edge on this machine that TLS is spoken on. */
  readonly edgePort: number
}

type Account = { readonly access: CloudflareAccess; readonly config: Provider }

async function accountOf(draft: Draft): Promise<Account | undefined> {
  const [config] = await draft.list(provider, { tenant: PLATFORM, deleted: false })
  const token = config && draft.open(config, 'cloudflareToken')
  const accountId = config?.spec.cloudflareAccountId
  return config && token && accountId ? { access: { accountId, token }, config } : undefined
}

export function createRemoteTunnels({ cloudflare, connector, edgePort }: RemoteTools): RemoteTunnels {
  const known = new Map<string, { readonly id: string; readonly connectorToken: string }>()
  const fence = createFence()
  let configured = ''
  /** Undefined until this process said something to the connector. */
  let connected: boolean | undefined
  // Looks at several tunnels come at once; the ingress is one for all and the last one written must be the newest.
  let turn: Promise<unknown> = Promise.resolve()
  const inTurn = <R>(work: () => Promise<R>): Promise<R> => {
    const mine = turn.then(work)
    turn = mine.catch(() => {})
    return mine
  }

  async function tunnelOf({ access, config }: Account, signal: AbortSignal) {
    const key = `${access.accountId} ${config.id}`
    const held = known.get(key)
    if (held) return held
    const made = await cloudflare.tunnel(access, `arcus-${config.id}`, signal)
    known.set(key, made)
    return made
  }

  async function ingressOf(draft: Draft, config: Provider): Promise<Ingress[]> {
    const all = await draft.list(tunnel, { tenant: ALL, deleted: false })
    const lines: Ingress[] = []
    for (const it of all.filter((one) => isRemote(one, config))) {
      const { hostname, protocol, workload, port } = it.spec
      if (protocol === 'http' || protocol === 'https') {
        lines.push({ hostname, service: `https://127.0.0.1:${edgePort}`, serverName: hostname })
        continue
      }
      const query = { tenant: it.tenant, terms: [`workload:${workload}`], deleted: false }
      const ready = (await draft.list(replica, query)).find((one) => serves(one, workload))
      if (ready) lines.push({ hostname, service: `tcp://${ready.spec.fabric}:${port}` })
    }
    return lines
  }

  const configure = (account: Account, id: string, { draft, signal }: Look): Promise<void> =>
    inTurn(async () => {
      const ingress = await ingressOf(draft, account.config)
      const text = JSON.stringify([id, ingress])
      if (text === configured) return
      // Not known until it is answered: a call that fails may be done all the same, and then the wish may go back.
      configured = ''
      await cloudflare.configure(account.access, id, ingress, signal)
      configured = text
    })

  return {
    async carries(it, { draft, signal }) {
      const account = await accountOf(draft)
      if (!account && connected !== false) {
        await connector.apply(undefined, signal)
        connected = false
      }
      return account !== undefined && isRemote(it, account.config)
    },
    async keep(it, look) {
      const account = await accountOf(look.draft)
      if (!account) throw new CloudError('unavailable', 'the provider has no access to Cloudflare any more')
      const { id, connectorToken } = await tunnelOf(account, look.signal)
      connected = true
      await connector.apply({ token: connectorToken }, look.signal)
      await configure(account, id, look)
      await fence.write(it.id, () => cloudflare.point(account.access, id, it.spec.hostname, look.signal))
      const { state, message } = await connector.observe(look.signal)
      return state === 'running' ? undefined : `waits for the connector of Cloudflare: ${message ?? state}`
    },
    async drop(it, look) {
      const account = await accountOf(look.draft)
      // Without access there is nothing that could be asked; an administrator removes what is left there.
      if (!account || it.spec.protocol === 'udp') return
      const { id } = await tunnelOf(account, look.signal)
      await fence.remove(it.id, () => cloudflare.unpoint(account.access, id, it.spec.hostname, look.signal))
      await configure(account, id, look)
    },
  }
}
