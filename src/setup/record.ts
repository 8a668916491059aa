import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

const RECORD = '/etc/arcus/up.json'

/** What `up` was told, for a later `up` and `down` that are told nothing. */
export type UpRecord = {
  readonly data: string
  readonly listen: readonly string[]
  /** Absent in what was written before there was one. */
  readonly front?: { readonly http: string; readonly https: string }
  /** More words for the cloud's command line. */
  readonly more: readonly string[]
}

export function readRecord(): UpRecord | undefined {
  try {
    return JSON.parse(readFileSync(RECORD, 'utf8')) as UpRecord
  } catch {
    return undefined
  }
}

export function writeRecord(it: UpRecord): void {
  mkdirSync(dirname(RECORD), { recursive: true, mode: 0o755 })
  writeFileSync(RECORD, `${JSON.stringify(it)}\n`, { mode: 0o644 })
}

export const removeRecord = (): void => rmSync(dirname(RECORD), { recursive: true, force: true })
