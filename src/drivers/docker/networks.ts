import type { NetworkCreateOptions } from 'dockerode'
import { createTurns, type Turns } from '#lib/turns.ts'
import type { HeldAttachment } from './attach.ts'
import { ATTACHMENT_OPTION, type Joining, LABEL, networkName } from './container.ts'
import { type DockerApi, statusOf } from './docker.ts'
import type { Owner } from './owner.ts'
import type { KeptWish } from './wishes.ts'

/** Option of a network and of its pools that tells the plugin which subnet they are. */
export const SUBNET_OPTION = 'arcus.subnet'

/**
 * Docker's side of subnets: one network each, of our plugin, made before its first container, and removed with the subnet.
 * `using` and `alone`, by the subnet's id, keep both from happening at once.
 */
export type Networks = Turns & {
  /** Call it inside `using`. */
  ensure(attached: HeldAttachment): Promise<void>
  /** What a container of the wish is made with; after `ensure`. */
  joining(attached: HeldAttachment, wish: KeptWish): Joining
  /** Before each start: puts a container into what else it needs. */
  join(attached: HeldAttachment, runtimeId: string): Promise<void>
  /** Call it inside `alone`. One that Docker does not let go of stays, and `isStuck`. */
  remove(subnet: string): Promise<void>
  /**
   * True when Docker would not remove a subnet's network the last time: it counts an endpoint in it. Where no container is,
   * it has lost count, as up to version 20.10 at least it does where containers come and go at once; it counts anew when it starts.
   */
  isStuck(subnet: string): boolean
  /** Ids of all subnets that have one. */
  list(): Promise<readonly string[]>
  /** What is known may have changed: Docker was away, or refused to start on a network. */
  doubt(): void
}

export function dockerNetworks(api: DockerApi, instance: string, plugin: string, owner: Owner): Networks {
  /** Subnets that had one when it was last looked for, and whether Docker sets IPv6 in it: that never changes. */
  const known = new Map<string, boolean>()
  /** Those of them that are sure to have it still. */
  const sure = new Set<string>()
  const ours = [`${LABEL.instance}=${instance}`]
  const turns = createTurns()
  const making = new Map<string, Promise<void>>()
  const stuck = new Set<string>()

  const make = async (attached: HeldAttachment): Promise<void> => {
    const subnet = attached.subnet.id
    // One that is there stays what it was made as, whatever Docker became since.
    const [there] = await api.networks([...ours, `${LABEL.subnet}=${subnet}`])
    const ipv6: boolean = there?.EnableIPv6 ?? setsIpv6Itself(await api.version())
    if (!there) {
      try {
        await api.createNetwork(networkOptions(instance, plugin, owner, attached, ipv6))
      } catch (error) {
        if (statusOf(error) !== 409) throw error
      }
    }
    known.set(subnet, ipv6)
    sure.add(subnet)
  }

  return {
    using: turns.using,
    alone: turns.alone,
    async ensure(attached) {
      const subnet = attached.subnet.id
      if (sure.has(subnet)) return
      const made = making.get(subnet) ?? make(attached).finally(() => making.delete(subnet))
      making.set(subnet, made)
      await made
    },
    joining: ({ plan }, { id }) => ({
      endpoint: {
        IPAMConfig: {
          IPv4Address: plan.address,
          ...(known.get(plan.subnet) === true && { IPv6Address: plan.address6 }),
        },
        DriverOpts: { [ATTACHMENT_OPTION]: id },
      },
      resolver: 'vpc',
      ipv6: true,
    }),
    join: () => Promise.resolve(),
    async remove(subnet) {
      known.delete(subnet)
      sure.delete(subnet)
      stuck.delete(subnet)
      await api.removeNetwork(networkName(instance, subnet)).catch((error: unknown) => {
        if (statusOf(error) !== 403) throw error
        stuck.add(subnet)
      })
    },
    isStuck: (subnet) => stuck.has(subnet),
    list: async () =>
      (await api.networks(ours)).flatMap((it) => {
        const subnet = it.Labels?.[LABEL.subnet]
        return subnet === undefined || !owner.owns(it.Labels?.[LABEL.owner]) ? [] : [subnet]
      }),
    doubt: () => sure.clear(),
  }
}

/** The first version of Docker's API, that of Docker 24, behind which no process is started to set IPv6. */
const API_SETS_IPV6 = [1, 43] as const

/** Pure: whether a Docker that speaks this version of its API is left to set IPv6 in containers (decision 0091). */
export function setsIpv6Itself(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major > API_SETS_IPV6[0] || (major === API_SETS_IPV6[0] && minor >= API_SETS_IPV6[1])
}

/** Pure: what the network of a subnet is made with; `ipv6`: Docker sets it. */
export function networkOptions(
  instance: string,
  plugin: string,
  owner: Pick<Owner, 'label'>,
  attached: HeldAttachment,
  ipv6: boolean,
): NetworkCreateOptions {
  const { subnet, vpc } = attached
  const options = { [SUBNET_OPTION]: subnet.id }
  return {
    Name: networkName(instance, subnet.id),
    CheckDuplicate: true,
    Driver: plugin,
    EnableIPv6: ipv6,
    Options: options,
    Labels: {
      [LABEL.instance]: instance,
      [LABEL.owner]: owner.label,
      [LABEL.vpc]: vpc,
      [LABEL.subnet]: subnet.id,
    },
    IPAM: {
      Driver: plugin,
      Options: options,
      Config: [{ Subnet: subnet.cidr, Gateway: subnet.gateway }, ...(ipv6 ? [{ Subnet: subnet.cidr6 }] : [])],
    },
  }
}
