import { createHash } from 'node:crypto'

const BASE32 = '0123456789abcdefghijklmnopqrstuv'

/** The longest prefix that leaves room for the rest of a link's name, of which Linux allows 15 characters. */
export const PREFIX = /^[a-z][a-z0-9]{0,4}$/

/** The link of a VPC's namespace that leads to the host. */
export const UPLINK = 'uplink'

/** How the namespaces and links of one installation are called, and how they are recognised again. */
export type Names = {
  readonly prefix: string
  /** `arcus-<last 12 hex digits of the VPC's id>`: the random part of a UUIDv7. */
  namespace(vpc: string): string
  /** The VPC of a namespace as far as its name tells it: 12 hex digits, which `namespace` takes as well; undefined for a namespace that is not ours. */
  vpcOf(namespace: string): string | undefined
  /** The host's end of a VPC's uplink. */
  uplink(index: number): string
  /** The container's end of an attachment's link, while it is on the host. */
  containerLink(attachment: string): string
  isUplink(link: string): boolean
  isContainerLink(link: string): boolean
  /** The nftables table on the host. */
  readonly table: string
}

const short = (id: string): string => {
  const digest = createHash('sha256').update(id).digest()
  return [...digest.subarray(0, 8)].map((byte) => BASE32[byte & 31]).join('')
}

/** The router's end of an attachment's link, inside the VPC's namespace. */
export const routerLink = (attachment: string): string => `c${short(attachment)}`

/** Both ends of the link of a peering, each in the namespace of its VPC. */
export const peeringLink = (peering: string): string => `p${short(peering)}`

export const isRouterLink = (link: string): boolean => /^c[0-9a-v]{8}$/.test(link)

export function namesFor(prefix: string): Names {
  if (!PREFIX.test(prefix)) throw new Error(`not a usable prefix, 1 to 5 of a-z and 0-9: ${prefix}`)
  const namespace = new RegExp(`^${prefix}-([0-9a-f]{12})$`)
  const uplink = new RegExp(`^${prefix}-u\\d{1,6}$`)
  const container = new RegExp(`^${prefix}-c[0-9a-v]{8}$`)
  return {
    prefix,
    table: prefix,
    namespace: (vpc) => `${prefix}-${vpc.replaceAll('-', '').slice(-12).toLowerCase()}`,
    vpcOf: (name) => namespace.exec(name)?.[1],
    uplink: (index) => `${prefix}-u${index}`,
    containerLink: (attachment) => `${prefix}-${routerLink(attachment)}`,
    isUplink: (link) => uplink.test(link),
    isContainerLink: (link) => container.test(link),
  }
}
