import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { writeAtomically } from '#lib/files.ts'

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

export function readRecord(path = RECORD): UpRecord | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as UpRecord
  } catch {
    return undefined
  }
}

/** Whole or not at all: without it a cloud would be taken for none, and another one be made elsewhere. */
export async function writeRecord(it: UpRecord, path = RECORD): Promise<void> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
  await writeAtomically(path, `${JSON.stringify(it)}\n`, 0o644)
}

export const removeRecord = (): void => rmSync(dirname(RECORD), { recursive: true, force: true })
