import type { TestEvent } from 'node:test/reporters'

/** What a run of node:test came to. */
export type Counts = { readonly passed: number; readonly failed: number; readonly skipped: number }

/** A reporter that says only the counts of a whole run, as JSON. */
// oxlint-disable-next-line import/no-default-export -- Node finds a reporter by its default export
export default async function* counts(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of events) {
    // Each file has a summary of its own; the one of the whole run names no file.
    if (event.type !== 'test:summary' || event.data.file !== undefined) continue
    const { tests, passed, skipped, todo } = event.data.counts
    yield JSON.stringify({
      passed,
      failed: tests - passed - skipped - todo,
      skipped: skipped + todo,
    } satisfies Counts)
  }
}
