import { CLOUD_HEAP, MALLOC } from '#setup/programs.ts'
import { programFile } from '../test/program.ts'
import { type Program, startProgram } from './process.ts'

type Ready = { readonly url: string; readonly admin: { readonly token: string } }

/** A cloud process over a simulated machine, as `./arcus serve` and `npm run dev` run it. */
export type BenchCloud = Program<Ready> & {
  readonly url: string
  /** Calls the native API as the administrator; throws unless it is answered with 2xx. */
  native<T>(method: string, path: string, body?: unknown, tenant?: string): Promise<T>
}

/** A person of thecloud, with the header that holds their key. */
export type Person = {
  readonly headers: Readonly<Record<string, string>>
  /** Calls thecloud and gives `data`; throws unless it is answered with 2xx. */
  call<T>(method: string, path: string, body?: unknown): Promise<T>
}

/** More than any client here asks for, so that requests are counted and none is refused. */
const REQUESTS_PER_SECOND = 999_999
const PASSWORD = 'a password of the bench'
/** What the person may is decided by statements, not by a role alone. */
const STATEMENTS = [
  { effect: 'Deny', action: ['vpc:delete', 'instance:*'], resource: ['prod', 'prod-*'] },
  { effect: 'Allow', action: ['vpc:*', 'ssh_key:*'], resource: ['*'] },
]

async function ask<T>(
  url: string,
  method: string,
  headers: Record<string, string>,
  body?: unknown,
): Promise<T> {
  const answer = await fetch(url, {
    method,
    headers: { ...headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = await answer.text()
  if (!answer.ok) throw new Error(`${method} ${url} answered ${answer.status} ${text}`)
  return (text === '' ? undefined : JSON.parse(text)) as T
}

/** Registers somebody with a tenant of their own and a policy of it, with a key to act by. */
export async function registerPerson({ url }: Pick<BenchCloud, 'url'>): Promise<Person> {
  const data = async <T>(method: string, path: string, body?: unknown, headers = {}): Promise<T> =>
    (await ask<{ data: T }>(`${url}/thecloud${path}`, method, headers, body)).data
  const login = { email: 'bench@example.com', password: PASSWORD }
  const { id } = await data<{ id: string }>('POST', '/auth/register', { ...login, name: 'bench' })
  const { api_key: key } = await data<{ api_key: string }>('POST', '/auth/login', login)
  const headers = { 'x-api-key': key }
  const call: Person['call'] = async (method, path, body) => await data(method, path, body, headers)
  const policy = await call<{ id: string }>('POST', '/iam/policies', {
    name: 'bench',
    statements: STATEMENTS,
  })
  await call('POST', `/iam/users/${id}/policies/${policy.id}`)
  return { headers, call }
}

export const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` })

/** `preload` is loaded into the process before the program; `more` are options of it. */
export async function startCloud(
  data: string,
  preload?: string,
  more: readonly string[] = [],
): Promise<BenchCloud> {
  const words = [
    ...CLOUD_HEAP,
    ...(preload === undefined ? [] : ['--import', preload]),
    programFile('main'),
    '--data',
    data,
    '--listen',
    '127.0.0.1:0',
    '--json',
    '--compute=simulated',
    '--network=simulated',
    `--request-rate=${REQUESTS_PER_SECOND}`,
    ...more,
  ]
  const program = await startProgram<Ready>(words, { env: MALLOC })
  const { url, admin } = program.ready
  return {
    ...program,
    url,
    native: async <T>(method: string, path: string, body?: unknown, tenant?: string) =>
      await ask<T>(
        `${url}/native${path}`,
        method,
        { ...bearer(admin.token), ...(tenant === undefined ? {} : { 'arcus-tenant': tenant }) },
        body,
      ),
  }
}
