import { hash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import type { Repeatable } from '#cloud/cloud.ts'
import { CloudError } from '#lib/errors.ts'

const KEY_LENGTH_MAX = 64
const HEADER = 'idempotency-key'

/**
 * What makes a repeat of a request safe (contract A10): the key in its header with a hash of the body, for `verbs.once`;
 * undefined where the client sends none.
 */
export function repeatOf(request: FastifyRequest): Repeatable | undefined {
  const key = request.headers[HEADER]
  if (typeof key !== 'string' || key === '') return undefined
  if (key.length > KEY_LENGTH_MAX)
    throw new CloudError('invalid', `must have at most ${KEY_LENGTH_MAX} characters`, {
      field: 'Idempotency-Key',
    })
  return { key, hash: hash('sha256', JSON.stringify(request.body ?? null)) }
}
