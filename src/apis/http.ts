import type { FastifyInstance } from 'fastify'
import type { Cloud } from '#cloud/cloud.ts'

/**
 * One API dialect: a set of routes over the cloud's verbs, with its own authentication header and error shape. Mounted
 * under `/<name>`, by host `<name>.localhost`, and alone on a port of its own with `--listen <name>=HOST:PORT`.
 */
export type Dialect = {
  readonly name: string
  readonly title: string
  /** Registers routes (without prefix), error handler and not-found handler in an encapsulated scope. */
  register(app: FastifyInstance, cloud: Cloud): Promise<void>
}
