import assert from 'node:assert/strict'
import type { TestCloud } from './cloud.testing.ts'
import { eventually } from './wait.testing.ts'

const SETTLES_MS = 40_000

export type Instance = {
  readonly id: string
  readonly status: string
  readonly container_id: string
  readonly private_ip: string
  readonly ports: string
}
type Said = { readonly status: number; readonly text: string; readonly data: unknown }

/** A tenant as thecloud's API shows it: `call` gives any answer, `data` only what succeeded. */
export async function cloudTenant(cloud: TestCloud) {
  const t = await cloud.tenant()
  const call = async (method: string, path: string, body?: unknown): Promise<Said> => {
    const answer = await fetch(`${cloud.url}/thecloud${path}`, {
      method,
      headers: {
        'x-api-key': t.token,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await answer.text()
    return {
      status: answer.status,
      text,
      data: text === '' ? undefined : (JSON.parse(text) as { data: unknown }).data,
    }
  }
  const data = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
    const { status, text, data: said } = await call(method, path, body)
    assert.ok(status < 300, `${method} ${path} ${status} ${text}`)
    return said as T
  }
  const launch = async (name: string, how: object): Promise<Instance> => {
    const { id } = await data<Instance>('POST', '/instances', { name, ...how })
    return await until(id, 'RUNNING')
  }
  const until = async (id: string, status: string): Promise<Instance> =>
    await eventually(
      `${id} is ${status}`,
      async () => {
        const it = await data<Instance>('GET', `/instances/${id}`)
        return it.status === status ? it : undefined
      },
      SETTLES_MS,
    )
  return {
    t,
    call,
    data,
    launch,
    until,
    shell: async (id: string, line: string) =>
      await shell(await data('GET', `/instances/${id}/console`), line),
  }
}

/** What a shell says to one line, over the console's WebSocket. */
async function shell(url: string, line: string): Promise<string> {
  const socket = new WebSocket(url)
  socket.binaryType = 'arraybuffer'
  let said = ''
  const ended = Promise.withResolvers<void>()
  socket.addEventListener('open', () => socket.send(Buffer.from(`${line}; exit\n`)))
  socket.addEventListener('message', ({ data }) => {
    if (typeof data !== 'string') said += Buffer.from(data as ArrayBuffer).toString()
    else if (data.includes('"error"')) ended.reject(new Error(data))
  })
  socket.addEventListener('close', () => ended.resolve())
  socket.addEventListener('error', () => ended.reject(new Error('the console could not be reached')))
  await ended.promise
  return said
}
