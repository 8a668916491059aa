/** A resource as policies name it; without an id any of its kind: what is about to be made, or a list. */
export type Target = {
  readonly kind: string
  readonly id?: string
  readonly name?: string
  /** The tenant that it belongs to; the caller's own by default. */
  readonly tenant?: string
}

export type ActionVerb = 'create' | 'read' | 'update' | 'delete'

/** How policies speak of a kind: its word before the colon, verbs that are called otherwise, its ARN. */
type Words = {
  readonly word: string
  readonly verbs?: Partial<Record<ActionVerb, string>>
  /** Service and resource type of its ARN; both the word by default. */
  readonly arn?: readonly [service: string, type: string]
}

/** What lies in a VPC is changed with the VPC's permissions. */
const partOfVpc = (arn: readonly [string, string]): Words => ({
  word: 'vpc',
  verbs: { create: 'update', delete: 'update' },
  arn,
})
const WORDS: Readonly<Record<string, Words>> = {
  workload: { word: 'instance', verbs: { create: 'launch', delete: 'terminate' } },
  replica: { word: 'instance' },
  subnet: partOfVpc(['subnet', 'subnet']),
  'route-table': { word: 'vpc', verbs: { create: 'update' }, arn: ['vpc', 'route-table'] },
  'security-group': { word: 'sg', arn: ['vpc', 'security-group'] },
  'internet-gateway': { word: 'vpc', arn: ['vpc', 'igw'] },
  'nat-gateway': { word: 'vpc', arn: ['vpc', 'nat-gateway'] },
  'elastic-ip': {
    word: 'eip',
    verbs: { create: 'allocate', update: 'associate', delete: 'release' },
    arn: ['vpc', 'eip'],
  },
  peering: { word: 'vpc_peering', verbs: { update: 'accept' }, arn: ['vpc-peering', 'peering'] },
  'load-balancer': { word: 'lb' },
  zone: { word: 'dns', arn: ['dns', 'zone'] },
  record: { word: 'dns', arn: ['dns', 'record'] },
  policy: { word: 'iam' },
  role: { word: 'rbac' },
  membership: { word: 'tenant', verbs: { create: 'update', delete: 'update' } },
  credential: { word: 'identity', verbs: { update: 'create' } },
  user: { word: 'identity' },
}

const wordsOf = (kind: string): Words => WORDS[kind] ?? { word: kind.replaceAll('-', '_') }

/** The action that a verb on a kind is to policies and permissions: `instance:launch`. */
export function actionOf(kind: string, verb: ActionVerb): string {
  const { word, verbs } = wordsOf(kind)
  return `${word}:${verbs?.[verb] ?? verb}`
}

/** An action by all its names: list, get and read are one. */
export function actionsOf(action: string): readonly string[] {
  return action.endsWith(':read')
    ? [action, `${action.slice(0, -4)}list`, `${action.slice(0, -4)}get`]
    : [action]
}

const arnIn = ({ word, arn: [service, type] = [word, word] }: Words, tenant: string, id: string): string =>
  `arn:thecloud:${service}:local:${tenant}:${type}/${id}`

/** The ARN of a resource (contract A8); the id `*` for any. */
export const arnOf = (kind: string, tenant: string, id: string): string => arnIn(wordsOf(kind), tenant, id)

/** A resource by all the names that a policy may know it by: id, name, `<type>:<id>` in the words of action, kind and ARN, ARN. */
export function namesOf(action: string, tenant: string, target: Target | undefined): readonly string[] {
  const [word = ''] = action.split(':')
  if (!target) return ['*', `${word}:*`]
  const { kind, id = '*', name, tenant: owner = tenant } = target
  const words = wordsOf(kind)
  const arn = arnIn(words, owner, id)
  const types = new Set([word, words.word, kind, words.arn?.[1] ?? words.word])
  return [id, ...(name === undefined ? [] : [name]), arn, ...[...types].map((it) => `${it}:${id}`)]
}
