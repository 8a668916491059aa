import { lookup, Resolver } from 'node:dns/promises'
import { CloudError, messageOf } from '#lib/errors.ts'
import type { NamesDriver } from '#cloud/edge/names.driver.ts'

const LOOKUP_MS_MAX = 3000
const TRIES_MAX = 2

/** The resolvers of this machine, or those given as `ADDRESS` or `ADDRESS:PORT`. */
export const systemNames = (servers: readonly string[] = []): NamesDriver => ({
  async txt(name, signal) {
    const resolver = new Resolver({ timeout: LOOKUP_MS_MAX, tries: TRIES_MAX })
    if (servers.length) resolver.setServers([...servers])
    const stop = (): void => resolver.cancel()
    signal.addEventListener('abort', stop, { once: true })
    try {
      return (await resolver.resolveTxt(name)).map((parts) => parts.join(''))
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOTFOUND' || code === 'ENODATA') return []
      throw new CloudError('unavailable', `DNS does not answer for ${name}: ${messageOf(error)}`, {}, error)
    } finally {
      signal.removeEventListener('abort', stop)
    }
  },
})

/** TXT records of a name as one name server has them, that is asked by its own name. `unavailable` when it does not answer. */
export async function textsAt(server: string, name: string, signal: AbortSignal): Promise<readonly string[]> {
  const { address } = await lookup(server).catch((error: unknown) => {
    throw new CloudError('unavailable', `DNS does not know ${server}: ${messageOf(error)}`, {}, error)
  })
  return await systemNames([address]).txt(name, signal)
}
