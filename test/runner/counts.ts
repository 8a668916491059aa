import type { TestEvent } from 'node:test/reporters'

/** What a run of node:test came to. */
export type Counts = { readonly passed: number; readonly failed: number; readonly skipped: number }

const PASSED = '+'
const FAILED = '-'
const SKIPPED = '.'

/** A reporter that writes one character for each test that ended, so that a run that is cut short is counted too. */
// oxlint-disable-next-line import/no-default-export -- Node finds a reporter by its default export
export default async function* counts(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const { type, data } of events) {
    if ((type !== 'test:pass' && type !== 'test:fail') || data.details.type === 'suite') continue
    const excused =
      (data.skip !== undefined && data.skip !== false) || (data.todo !== undefined && data.todo !== false)
    yield excused ? SKIPPED : type === 'test:pass' ? PASSED : FAILED
  }
}

/** Adds up what the reporter wrote. */
export function countsOf(written: string): Counts {
  const count = (character: string): number => written.split(character).length - 1
  return { passed: count(PASSED), failed: count(FAILED), skipped: count(SKIPPED) }
}
