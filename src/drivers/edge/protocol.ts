import { CloudError, ERROR_CODES, type ErrorCode, type ErrorDetails } from '#lib/errors.ts'

/** Grows when a verb changes; a neighbour one apart is served, so that the two processes can be upgraded in any order. */
export const PROTOCOL = 3
export const PROTOCOL_HEADER = 'arcus-protocol'
export const BODY_BYTES_MAX = 16 * 1024 * 1024

export const speaks = (theirs: unknown): boolean => {
  const version = Number(theirs)
  return Number.isInteger(version) && Math.abs(version - PROTOCOL) <= 1
}

type WireError = { readonly code: ErrorCode; readonly message: string; readonly details: ErrorDetails }

/** An expected refusal in a form that crosses the socket. */
export const packError = ({ code, message, details }: CloudError): WireError => ({ code, message, details })

/** The refusal that was sent; undefined for anything else. */
export function unpackError(value: unknown): CloudError | undefined {
  const { code, message, details } = (value ?? {}) as Partial<WireError>
  if (code === undefined || !ERROR_CODES.includes(code) || typeof message !== 'string') return undefined
  return new CloudError(code, message, details ?? {})
}
