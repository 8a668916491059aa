import {
  closeSync,
  copyFileSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  statSync,
  truncateSync,
} from 'node:fs'
import { dirname } from 'node:path'

/** A log file larger than this is moved to `.1`, whose former content goes. */
export const LOG_BYTES_MAX = 16 * 1024 * 1024
const TAIL_BYTES_MAX = 16 * 1024
const LINE_CHARS_MAX = 500

/** Opens for appending, so that several writers and a truncation go together; readable by root and the owner's group. */
export function openLog(path: string): number {
  mkdirSync(dirname(path), { recursive: true, mode: 0o750 })
  return openSync(path, 'a', 0o640)
}

export const sizeOfLog = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0

/** Starts the file afresh when it is too large. What is written between the copy and the cut is lost. */
export function rotateLog(path: string, bytesMax = LOG_BYTES_MAX): boolean {
  if (sizeOfLog(path) <= bytesMax) return false
  copyFileSync(path, `${path}.1`)
  truncateSync(path)
  return true
}

/** The last lines written since `from` (a size seen earlier), oldest first; a JSON log line is reduced to its words. */
export function lastLines(path: string, from: number, count: number): string[] {
  if (sizeOfLog(path) === 0) return []
  const file = openSync(path, 'r')
  try {
    const { size } = fstatSync(file)
    const start = Math.max(size < from ? 0 : from, size - TAIL_BYTES_MAX)
    const bytes = Buffer.alloc(size - start)
    readSync(file, bytes, 0, bytes.length, start)
    const lines = bytes
      .toString('utf8')
      .split('\n')
      .filter((line) => line.trim() !== '')
    return lines.slice(-count).map((line) => wordsOf(line).slice(0, LINE_CHARS_MAX))
  } finally {
    closeSync(file)
  }
}

function wordsOf(line: string): string {
  if (!line.startsWith('{')) return line
  try {
    const { message, error } = JSON.parse(line) as {
      message?: unknown
      error?: { message?: unknown } | string
    }
    const cause = typeof error === 'object' ? error.message : error
    return [message, cause].filter((it) => typeof it === 'string').join(': ') || line
  } catch {
    return line
  }
}
