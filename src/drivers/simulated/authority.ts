import { CloudError } from '#lib/errors.ts'
import type { CloudflareDriver, ConnectorDriver, Ingress } from '#cloud/edge/cloudflare.driver.ts'
import type { AcmeDriver, CertificateIssuer, TxtRecords } from '#cloud/edge/issuer.driver.ts'
import type { NamesDriver } from '#cloud/edge/names.driver.ts'
import type { Fault } from './network.ts'

export type SimulatedWorld = NamesDriver &
  TxtRecords & {
    readonly acme: AcmeDriver
    /** TXT records of the world's DNS, by name; tests set them as well. */
    readonly records: Map<string, readonly string[]>
    /** A provider of tunnels, with what it was told. */
    readonly cloudflare: CloudflareDriver & {
      readonly ingress: Map<string, readonly Ingress[]>
      readonly pointed: Set<string>
    }
    readonly connector: SimulatedConnector
  }

/**
 * The world outside: its DNS and an authority in it, which signs by `signer` once its challenges are answered where
 * `answered` says. For tests and benchmarks.
 */
export function simulatedWorld(
  signer: CertificateIssuer,
  answered: (hostname: string, token: string) => string | undefined,
  fault: Fault = () => {},
): SimulatedWorld {
  const records = new Map<string, readonly string[]>()
  const acme: AcmeDriver = {
    async register({ directory, key = 'simulated account key' }) {
      await fault('register', directory)
      return { account: `${directory}/account`, key }
    },
    async issue({ account }, { names, challenge }, publish, signal) {
      await fault('issue', account)
      const asked = names.map((hostname) =>
        challenge === 'http-01'
          ? { type: challenge, hostname, token: `token-${hostname}`, answer: `answer-${hostname}` }
          : { type: challenge, hostname, record: `_acme-challenge.${hostname}`, value: `answer-${hostname}` },
      )
      await publish(asked)
      try {
        for (const it of asked) {
          const seen =
            it.type === 'http-01' ? [answered(it.hostname, it.token)] : (records.get(it.record) ?? [])
          if (!seen.includes(`answer-${it.hostname}`))
            throw new CloudError('unavailable', `the authority did not accept that ${it.hostname} is ours`)
        }
        return await signer.issue(names, signal)
      } finally {
        await publish([])
      }
    },
  }
  const [ingress, pointed] = [new Map<string, readonly Ingress[]>(), new Set<string>()]
  return {
    acme,
    records,
    cloudflare: {
      ingress,
      pointed,
      async tunnel(_access, name) {
        await fault('tunnel', name)
        return { id: name, connectorToken: `token of ${name}` }
      },
      async configure(_access, id, lines) {
        await fault('configure', id)
        ingress.set(id, lines)
      },
      async point(_access, _id, hostname) {
        await fault('point', hostname)
        pointed.add(hostname)
      },
      async unpoint(_access, _id, hostname) {
        await fault('unpoint', hostname)
        pointed.delete(hostname)
      },
    },
    connector: simulatedConnector(fault),
    async txt(name) {
      await fault('txt', name)
      return records.get(name) ?? []
    },
    async put(_access, record, value) {
      await fault('put', record)
      records.set(record, [...(records.get(record) ?? []), value])
    },
    async remove(_access, record, value) {
      await fault('remove', record)
      records.set(
        record,
        (records.get(record) ?? []).filter((it) => it !== value),
      )
    },
  }
}

export type SimulatedConnector = ConnectorDriver & {
  token(): string | undefined
  /** It is seen like this, or as it is again. */
  pretend(seen?: Awaited<ReturnType<ConnectorDriver['observe']>>): void
}

/** A connector that only says that it runs. */
export function simulatedConnector(fault: Fault = () => {}): SimulatedConnector {
  let token: string | undefined
  let pretended: Awaited<ReturnType<ConnectorDriver['observe']>> | undefined
  return {
    token: () => token,
    pretend: (seen) => void (pretended = seen),
    async apply(connector) {
      await fault('connect', '')
      token = connector?.token
    },
    observe: async () =>
      await Promise.resolve(pretended ?? { state: token === undefined ? 'absent' : 'running' }),
  }
}
