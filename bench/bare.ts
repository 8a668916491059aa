import { join } from 'node:path'
import { type Program, startProgram } from './process.ts'

/** One route of a bare server: it answers with the same value whatever is asked. */
export type BareRoute = {
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly status: number
  readonly answer: unknown
}
export type Bare = Program<{ readonly url: string }>

/**
 * The peer of HTTP figures: fastify of the same version on the same Node with nothing but these routes. A path's
 * parameters and a body pass the validator and an answer the serializer that Arcus has; it looks nothing up, knows no
 * credential, and keeps nothing. `database`: each POST is first one row in a SQLite database there, one transaction and
 * one fsync of its own. `socketPath`: it listens there.
 */
export const startBare = async (
  routes: readonly BareRoute[],
  how: { database?: string; preload?: string; socketPath?: string } = {},
): Promise<Bare> =>
  await startProgram<{ url: string }>([
    ...(how.preload === undefined ? [] : ['--import', how.preload]),
    join(import.meta.dirname, 'bare.process.ts'),
    JSON.stringify({ routes, database: how.database, socketPath: how.socketPath }),
  ])
