// Run as a process of its own by the crash test: writes as fast as it can and tells each id once its commit is acknowledged.
import { jsonLog } from '#lib/log.ts'
import { keyOf } from './resource.ts'
import { openSqliteStore } from './store.sqlite.ts'
import { claim, create, toy } from './store.testing.ts'

const WRITERS = 8

const [directory = ''] = process.argv.slice(2)
const store = await openSqliteStore({ directory, log: jsonLog() })
process.stdout.write('ready\n')

async function write(): Promise<never> {
  for (;;) {
    const one = toy()
    await store.commit([
      create(one, { terms: ['written:1'] }),
      claim(one.id, { value: one.id }),
      {
        do: 'record',
        record: { stream: 'event', tenant: 'acme', subject: one.id, at: 1, what: 'made', body: {} },
      },
      { do: 'enqueue', key: keyOf(one), at: 0 },
    ])
    process.stdout.write(`${one.id}\n`)
  }
}
await Promise.all(Array.from({ length: WRITERS }, write))
