import type { FastifyReply, FastifyRequest } from 'fastify'

const HEADERS: Readonly<Record<string, string>> = {
  'access-control-allow-origin': '*',
  'access-control-allow-methods': 'GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS',
  'access-control-allow-headers':
    'Content-Type, Authorization, X-API-Key, X-Tenant-ID, X-Request-ID, Idempotency-Key, X-Content-Sha256',
  'access-control-expose-headers': 'X-Request-ID, Retry-After',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'strict-transport-security': 'max-age=31536000; includeSubDomains',
  'content-security-policy': "default-src 'self'; frame-ancestors 'none'",
  'referrer-policy': 'strict-origin-when-cross-origin',
}

/** On every answer (contract A1); what a browser asks beforehand is answered before anything is looked at. */
export function commonHeaders(request: FastifyRequest, reply: FastifyReply, done: () => void): void {
  void reply.headers(HEADERS)
  if (request.method === 'OPTIONS') reply.code(204).send()
  else done()
}
