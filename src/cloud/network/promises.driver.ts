/**
 * What a network can promise to those who use it, each in a sentence that tests with real packets prove. A driver lists
 * what it keeps; the verbs refuse what would need a promise that the host's driver does not make.
 */
export const NETWORK_PROMISES = {
  neighbours: 'Machines of a subnet reach each other and are seen under their own addresses.',
  subnets: 'So do machines in different subnets of a VPC.',
  isolation: 'Nothing of a VPC is reached from another one, of the same tenant or another.',
  'same-ranges': 'Two VPCs may have the same ranges and addresses.',
  'own-link': 'Neighbours share no link: the router carries every packet between them.',
  ipv6: 'IPv6 reaches the whole VPC, and no further.',
  unassigned: 'What is sent to an address that nobody has gets no answer and does not leave the VPC.',
  spoofing: 'What is sent under a source that is not its own is dropped, in both families.',
  names: 'The names of workloads lead to them, in their own VPC alone.',
  zones: 'So do the records of its private zone, which nobody else is answered.',
  vip: 'A workload has one address, which balances over its ready replicas, for its ports alone.',
  'vip-refusal': 'Where no replica is ready that address refuses at once.',
  hairpin: "A replica reaches its own workload's address.",
  'way-out': 'Who is given a way out reaches the outside.',
  'no-way-out': 'Who is not, and all of a VPC without internet, reaches nothing outside.',
  'external-source': 'The outside sees an external address as the source.',
  'external-address': 'An external address leads to its workload from everywhere, for its ports alone.',
  private: 'Nobody beyond the host reaches a machine by its private address.',
  fabric: 'The platform reaches each machine by an address of its own, and nobody else does.',
  'host-ports': 'No address of the host answers a machine, but for DNS.',
  'host-networks': "Nor does anything in the host's own networks.",
  router: "A VPC's router can be neither spoken to nor passed without its rules.",
  groups: 'Security groups decide what passes.',
  revocation: 'Connections end when a change no longer allows them, and only those.',
  routes: 'Route tables decide where a subnet sends.',
  gateways: 'A gateway is a way out for those who are routed to it, and for nobody else.',
  'elastic-ip': 'An elastic IP leads to its machine, and is the source of what that sends out.',
  published:
    'A published port of the host leads to its workload from outside and from the host, and from nowhere else.',
  peering: 'Peered VPCs reach each other where both route there, and nothing beyond.',
  balancers:
    'A load balancer has an address that leads to its targets, for who may call it and its port alone, as far as the targets let it.',
  flood: 'A flood of connections from one VPC leaves the others working.',
} as const

export type NetworkPromise = keyof typeof NETWORK_PROMISES

export const EVERY_PROMISE = Object.keys(NETWORK_PROMISES) as readonly NetworkPromise[]
