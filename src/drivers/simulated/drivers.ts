import type { Clock } from '#lib/clock.ts'
import type { CertificateIssuer } from '#cloud/edge/issuer.driver.ts'
import type { NetworkPromise } from '#cloud/network/promises.driver.ts'
import { simulatedWorld } from './authority.ts'
import { simulatedCompute } from './compute.ts'
import { simulatedEdge } from './edge.ts'
import { simulatedFront } from './front.ts'
import { simulatedImages } from './images.ts'
import { simulatedMail } from './mail.ts'
import { simulatedSockets } from './sockets.ts'
import { type Fault, simulatedNetwork } from './network.ts'

/** A whole simulated machine and the world around it. `fault` is called before each verb as `<driver>.<verb>`. */
export function simulatedDrivers(options: {
  readonly clock: Clock
  /** Signs certificates, the installation's own and those of the authority outside. */
  readonly signer: CertificateIssuer
  readonly fault?: Fault
  /** What the network says it can do; everything by default. */
  readonly promises?: readonly NetworkPromise[]
}) {
  const { clock, signer, fault } = options
  const named =
    (driver: string): Fault =>
    async (verb, id) =>
      await fault?.(`${driver}.${verb}`, id)
  const compute = simulatedCompute(clock, named('compute'))
  const images = simulatedImages(clock, named('images'))
  const mail = simulatedMail(named('mail'))
  const network = simulatedNetwork(named('network'), options.promises)
  const edge = simulatedEdge(named('edge'))
  const front = simulatedFront(named('front'))
  const sockets = simulatedSockets(named('sockets'))
  const answerAt = (hostname: string, token: string): string | undefined =>
    [...front.certificates.values()]
      .flatMap((it) => it.challenges)
      .find((it) => it.hostname === hostname && it.token === token)?.answer
  const world = simulatedWorld(signer, answerAt, named('world'))
  return {
    compute,
    images,
    mail,
    network,
    edge,
    front,
    sockets,
    world,
    issuers: { internal: signer, acme: world.acme },
    records: world,
    cloudflare: world.cloudflare,
    connector: world.connector,
    names: world,
  }
}
