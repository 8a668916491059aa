import type { FastifyRequest } from 'fastify'
import Type, { type TSchema } from 'typebox'

export const LIMIT_MAX = 1000
export const LIMIT_DEFAULT = 50

/** Query members of a list that is also served as a page. Other values than numbers above 0 count as absent. */
export const PAGING = {
  limit: Type.Optional(
    Type.String({ description: `With offset: a nested page of that many, ${LIMIT_MAX} at most.` }),
  ),
  offset: Type.Optional(Type.String({ description: 'How many to leave out.' })),
}

export const NestedPage = <T extends TSchema>(list: T) =>
  Type.Object({ data: list, total_count: Type.Integer(), has_more: Type.Boolean() })

/** A number above 0; other values count as absent: 0. */
function numberOf(text: unknown): number {
  const value = Number(text)
  return Number.isSafeInteger(value) && value > 0 ? value : 0
}

/** How many a query's `limit` asks for. */
export const limitOf = (text: unknown): number => Math.min(numberOf(text) || LIMIT_DEFAULT, LIMIT_MAX)

const queryOf = ({ query }: FastifyRequest) =>
  query as { readonly limit?: unknown; readonly offset?: unknown }

/** Whether a page is asked for: the command line sends both members, else the flat list is expected (contract A6). */
export const isPaged = (request: FastifyRequest): boolean => {
  const { limit, offset } = queryOf(request)
  return numberOf(limit) > 0 || numberOf(offset) > 0
}

/** The page of a list that the query asks for. */
export function pageOf(request: FastifyRequest, all: readonly unknown[]) {
  const query = queryOf(request)
  const offset = numberOf(query.offset)
  const data = all.slice(offset, offset + limitOf(query.limit))
  return { data, total_count: all.length, has_more: offset + data.length < all.length }
}
