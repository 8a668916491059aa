import Type, { type Static } from 'typebox'
import { arnOf, type Caller } from '#cloud/access.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import {
  securityGroup,
  type SecurityGroup as Resource,
  type SecurityRule,
} from '#cloud/network/security-group.kind.ts'
import { CloudError } from '#lib/errors.ts'
import { isUuid } from '#lib/ids.ts'
import { byId, byIdOrName } from './lookup.ts'
import { type Frame, operation } from './operation.ts'
import { type Family, listing, removing, shown, shownDone } from './reads.ts'
import { IdOrName, Message, NIL, Text, timestamp, Timestamp, Uuid } from './schema.ts'

const PORT_MAX = 65_535
const ANYONE = '0.0.0.0/0'
const PRIORITY_DEFAULT = 100

const Direction = Type.Enum(['ingress', 'egress'])
const Port = Type.Integer({ minimum: 0, maximum: PORT_MAX })
const Rule = Type.Object({
  id: Uuid,
  group_id: Uuid,
  direction: Direction,
  protocol: Type.Enum(['tcp', 'udp', 'icmp', 'all', 'arp']),
  port_min: Type.Optional(Port),
  port_max: Type.Optional(Port),
  cidr: Type.String({ description: 'Of a rule of another dialect it may be the id of a group.' }),
  priority: Type.Integer({ description: 'The order of the list; every rule allows.' }),
  created_at: Timestamp,
})
const SecurityGroup = Type.Object({
  id: Uuid,
  user_id: Uuid,
  tenant_id: Uuid,
  vpc_id: Uuid,
  name: Type.String(),
  description: Type.String(),
  arn: Type.String(),
  rules: Type.Optional(Type.Array(Rule)),
  created_at: Timestamp,
})

const encodeRule = (it: SecurityRule, group: Resource): Static<typeof Rule> => ({
  id: it.id ?? NIL,
  group_id: group.id,
  direction: it.direction,
  protocol: it.protocol === 'any' ? 'all' : it.protocol,
  ...(it.fromPort === undefined ? {} : { port_min: it.fromPort, port_max: it.toPort ?? it.fromPort }),
  cidr: it.cidr ?? it.group ?? ANYONE,
  priority: it.priority ?? PRIORITY_DEFAULT,
  created_at: timestamp(it.createdAt ?? group.createdAt),
})

const encode = (it: Resource): Static<typeof SecurityGroup> => ({
  id: it.id,
  user_id: it.spec.creator ?? NIL,
  tenant_id: it.tenant,
  vpc_id: it.spec.vpc,
  name: it.name,
  description: it.spec.description ?? '',
  arn: arnOf(it.kind, it.tenant, it.id),
  rules: it.spec.rules.map((one) => encodeRule(one, it)).toSorted((a, b) => a.priority - b.priority),
  created_at: timestamp(it.createdAt),
})

const FAMILY = {
  tag: 'Security groups',
  path: '/security-groups',
  kind: securityGroup,
  noun: 'Security group',
  answer: SecurityGroup,
  encode: (_, all) => all.map(encode),
} satisfies Family<typeof securityGroup.spec, typeof securityGroup.status, typeof SecurityGroup>

const { tag } = FAMILY

const NewRule = Type.Object({
  direction: Direction,
  protocol: Type.Enum(['tcp', 'udp', 'icmp', 'all']),
  cidr: Text(64),
  port_min: Type.Optional(Port),
  port_max: Type.Optional(Port),
  priority: Type.Optional(Type.Integer({ minimum: 0, maximum: PORT_MAX })),
  id: Type.Optional(Type.String({ description: 'Ignored.' })),
  group_id: Type.Optional(Type.String({ description: 'Ignored.' })),
})

/** The ports of a rule: tcp and udp must name them, the others have none, and 0 says nothing. */
function portsOf({ protocol, port_min: from = 0, port_max: to = 0 }: Static<typeof NewRule>) {
  if (protocol !== 'tcp' && protocol !== 'udp') return {}
  if (from < 1 || to < from)
    throw new CloudError(
      'invalid',
      `${protocol} needs ports from 1 to ${PORT_MAX}, port_min not above port_max`,
      {
        field: 'port_min',
      },
    )
  return { fromPort: from, toPort: to }
}

export function securityGroupRoutes(frame: Frame): void {
  const { cloud } = frame
  const named = async (caller: Caller, text: string, within?: string): Promise<Resource> => {
    if (within === undefined || isUuid(text))
      return await byIdOrName(cloud, caller, securityGroup, text, FAMILY.noun)
    const terms = [`vpc:${within}`, `name:${text}`]
    const { items } = await cloud.list(caller, securityGroup, { terms, deleted: false, limit: 1 })
    if (!items[0]) throw new CloudError('not_found', `${FAMILY.noun} not found`)
    return items[0]
  }
  listing(frame, FAMILY, {
    id: 'listSecurityGroups',
    summary: 'Security groups of a VPC, or of the tenant',
    vpcId: 'optional',
  })
  operation(frame, {
    tag,
    method: 'POST',
    path: '/security-groups',
    id: 'createSecurityGroup',
    summary: 'Make a group; whoever is in it gets only what its rules allow',
    body: Type.Object({
      vpc_id: Uuid,
      name: Text(255),
      description: Type.Optional(Type.String({ maxLength: 1024 })),
    }),
    answer: SecurityGroup,
    status: 201,
    refuses: [404, 409],
    async run({ caller, body: { vpc_id: id, name, description } }) {
      const made = await cloud.act(caller, 'sg.create', (verbs) =>
        verbs.createNamedGroup({
          vpc: id,
          name,
          ...(description === undefined ? {} : { description }),
        }),
      )
      return await shownDone(frame, FAMILY, caller, made)
    },
  })
  operation(frame, {
    tag,
    method: 'GET',
    path: '/security-groups/:id',
    id: 'getSecurityGroup',
    remembered: true,
    summary: 'Read a group with its rules; vpc_id says in which VPC a name is meant',
    params: { id: IdOrName },
    query: { vpc_id: Type.Optional(Uuid) },
    answer: SecurityGroup,
    refuses: [404],
    run: async ({ caller, params, query }) =>
      await shown(FAMILY, caller, await named(caller, params.id, query.vpc_id)),
  })
  removing(frame, FAMILY, {
    id: 'deleteSecurityGroup',
    summary: 'Delete a group; refused while instances are in it',
    act: 'sg.delete',
    refuses: [404, 409],
  })
  operation(frame, {
    tag,
    method: 'POST',
    path: '/security-groups/:id/rules',
    id: 'addSecurityRule',
    summary: 'Add a rule, which counts at once',
    params: { id: IdOrName },
    body: NewRule,
    answer: Rule,
    status: 201,
    refuses: [404],
    async run({ caller, params, body }) {
      const { id } = await named(caller, params.id)
      const { direction, protocol, cidr, priority = PRIORITY_DEFAULT } = body
      const { group, rule } = await cloud.act(caller, 'sg.add_rule', (verbs) =>
        verbs.addSecurityRule(id, {
          direction,
          protocol: protocol === 'all' ? 'any' : protocol,
          cidr,
          priority,
          ...portsOf(body),
        }),
      )
      return encodeRule(rule, group)
    },
  })
  operation(frame, {
    tag,
    method: 'DELETE',
    path: '/security-groups/rules/:ruleId',
    id: 'removeSecurityRule',
    summary: 'Remove a rule; connections that nothing else allows end',
    params: { ruleId: Uuid },
    status: 204,
    refuses: [404],
    async run({ caller, params }) {
      await cloud.act(caller, 'sg.remove_rule', (verbs) => verbs.removeSecurityRule(params.ruleId))
    },
  })
  for (const { word, message } of [
    { word: 'attach', message: 'security group attached' },
    { word: 'detach', message: 'security group detached' },
  ] as const)
    operation(frame, {
      tag,
      method: 'POST',
      path: `/security-groups/${word}`,
      id: `${word}SecurityGroup`,
      summary:
        word === 'attach' ? 'Put an instance into a group of its VPC' : 'Take an instance out of a group',
      body: Type.Object({ instance_id: Uuid, group_id: Uuid }),
      answer: Message(message),
      refuses: [404],
      async run({ caller, body }) {
        const { id: of } = await byId(cloud, caller, workload, body.instance_id, 'Instance')
        await cloud.act(caller, `sg.${word}`, async (verbs) => {
          if (word === 'attach') await verbs.attachSecurityGroup(of, body.group_id)
          else await verbs.detachSecurityGroup(of, body.group_id)
        })
        return { message }
      },
    })
}
