import type { Asker } from './ask.ts'
import type { Hands } from './dialect.ts'

export const handsOn = (asker: Asker, token: string, settle: () => Promise<void>): Hands => ({
  settle,
  native: async (method, path, { body, tenant } = {}) =>
    await asker.ask({
      method,
      path: `/native${path}`,
      headers: [
        ['authorization', `Bearer ${token}`],
        ...(tenant === undefined ? [] : [['arcus-tenant', tenant] as const]),
        ...(body === undefined ? [] : [['content-type', 'application/json'] as const]),
      ],
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    }),
})
