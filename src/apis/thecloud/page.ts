import type { FastifyRequest } from 'fastify'
import Type, { type TSchema } from 'typebox'

const LIMIT_MAX = 1000
const LIMIT_DEFAULT = 50

/** Query members of a list that is also served as a page. Other values than numbers above 0 count as absent. */
export const PAGING = {
  limit: Type.Optional(
    Type.String({ description: `With offset: a nested page of that many, ${LIMIT_MAX} at most.` }),
  ),
  offset: Type.Optional(Type.String({ description: 'How many to leave out.' })),
}

export const NestedPage = <T extends TSchema>(list: T) =>
  Type.Object({ data: list, total_count: Type.Integer(), has_more: Type.Boolean() })

function numberIn(request: FastifyRequest, name: 'limit' | 'offset'): number {
  const value = Number((request.query as Record<string, unknown>)[name])
  return Number.isSafeInteger(value) && value > 0 ? value : 0
}

/** Whether a page is asked for: the command line sends both members, else the flat list is expected (contract A6). */
export const isPaged = (request: FastifyRequest): boolean =>
  numberIn(request, 'limit') > 0 || numberIn(request, 'offset') > 0

/** The page of a list that the query asks for. */
export function pageOf(request: FastifyRequest, all: readonly unknown[]) {
  const offset = numberIn(request, 'offset')
  const limit = Math.min(numberIn(request, 'limit') || LIMIT_DEFAULT, LIMIT_MAX)
  const data = all.slice(offset, offset + limit)
  return { data, total_count: all.length, has_more: offset + data.length < all.length }
}
