import { type Client, type KindInfo, type Page, pathOf, type Query, type Resource } from './client.ts'
import { usage } from './failure.ts'

const PAGE = 500
/** Most resources one command lists; --limit and filters are for more. */
export const LISTED_MAX = 10_000

// What people say for a kind beside its name and plural.
const ALIASES: Readonly<Record<string, string>> = {
  pod: 'workload',
  sg: 'security-group',
  rt: 'route-table',
  igw: 'internet-gateway',
  nat: 'nat-gateway',
  eip: 'elastic-ip',
  lb: 'load-balancer',
  net: 'vpc',
}

export const kindsOf = async (client: Client): Promise<readonly KindInfo[]> =>
  (await client.get<{ items: readonly KindInfo[] }>('/kinds')).items

/** The kind that a word means: its name, plural, or an alias. */
export async function kindNamed(client: Client, word: string): Promise<string> {
  const names = (await kindsOf(client)).map((it) => it.name)
  const said = word.toLowerCase()
  const singular = said.replace(/s$/, '')
  const found = [said, singular, ALIASES[singular], singular.replaceAll('_', '-')].find(
    (it) => it !== undefined && names.includes(it),
  )
  if (found === undefined) throw usage(`there is no kind ${word}`, `the kinds are ${names.join(', ')}`)
  return found
}

/** Every resource that a query matches, at most `max`. */
export async function listAll(
  client: Client,
  kind: string,
  query: Query = {},
  max = LISTED_MAX,
): Promise<{ items: Resource[]; total: number }> {
  const items: Resource[] = []
  let after: string | undefined
  let total: number
  do {
    const page: Page = await client.get<Page>(pathOf(kind), {
      ...query,
      limit: Math.min(PAGE, max - items.length),
      after,
    })
    items.push(...page.items)
    after = page.next
    total = page.total
  } while (after !== undefined && items.length < max)
  return { items, total }
}

export const getOne = async (client: Client, kind: string, reference: string): Promise<Resource> =>
  await client.get<Resource>(pathOf(kind, reference))

/** `KIND NAME...` or `KIND/NAME`, as `delete` and `get` take them. */
export function splitReference(words: readonly string[]): { kind: string; names: readonly string[] } {
  const [first = '', ...names] = words
  const slash = first.indexOf('/')
  if (slash > 0 && names.length === 0) return { kind: first.slice(0, slash), names: [first.slice(slash + 1)] }
  return { kind: first, names }
}
