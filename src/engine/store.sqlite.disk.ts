/** SQLite's own codes (the lowest byte of an extended one): READONLY, IOERR, FULL, CANTOPEN. */
const DISK_CODES: readonly number[] = [8, 10, 13, 14]
const FULL = 13

const codeOf = (error: unknown): number => ((error as { errcode?: number } | null)?.errcode ?? 0) & 0xff

/** True for what the disk refused: no space, a broken or a read-only one. The same may work later. */
export const isDiskError = (error: unknown): boolean => DISK_CODES.includes(codeOf(error))

/** What to do about it, for the end of a sentence. */
export const adviceOn = (error: unknown): string =>
  codeOf(error) === FULL ? 'free some space on its disk' : 'see whether its disk is broken or read-only'
