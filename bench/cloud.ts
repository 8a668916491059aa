import { join } from 'node:path'
import { type Program, ROOT, startProgram } from './process.ts'

type Ready = { readonly url: string; readonly admin: { readonly token: string } }

/** A cloud process over a simulated machine, as `npm run dev` runs it. */
export type BenchCloud = Program<Ready> & {
  readonly url: string
  /** Calls the native API as the administrator; throws unless it is answered with 2xx. */
  native<T>(method: string, path: string, body?: unknown, tenant?: string): Promise<T>
}

export const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` })

/** `preload` is loaded into the process before the program; `more` are options of it. */
export async function startCloud(
  data: string,
  preload?: string,
  more: readonly string[] = [],
): Promise<BenchCloud> {
  const program = await startProgram<Ready>([
    ...(preload === undefined ? [] : ['--import', preload]),
    join(ROOT, 'src/main.ts'),
    '--data',
    data,
    '--listen',
    '127.0.0.1:0',
    '--json',
    '--compute=simulated',
    '--network=simulated',
    ...more,
  ])
  const { url, admin } = program.ready
  return {
    ...program,
    url,
    async native<T>(method: string, path: string, body?: unknown, tenant?: string) {
      const answer = await fetch(`${url}/native${path}`, {
        method,
        headers: {
          ...bearer(admin.token),
          ...(tenant === undefined ? {} : { 'arcus-tenant': tenant }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
      const text = await answer.text()
      if (!answer.ok) throw new Error(`${method} ${path} answered ${answer.status} ${text}`)
      return (text === '' ? undefined : JSON.parse(text)) as T
    },
  }
}
