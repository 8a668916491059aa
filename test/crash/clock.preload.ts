// Loaded into every thread of a process before anything else: moves its wall clock by the milliseconds in a file, which a
// test writes while the process runs. Timers go on as ever, as they do when a machine's clock is set.
import { readFileSync } from 'node:fs'

const POLL_MS = 10
const file = process.env['ARCUS_TEST_CLOCK'] ?? ''
const System = Date
let byMs = 0

const read = (): void => {
  byMs = Number(readFileSync(file, 'utf8'))
}
read()
setInterval(read, POLL_MS).unref()

globalThis.Date = new Proxy(System, {
  construct: (target, args: unknown[], as) =>
    Reflect.construct(target, args.length === 0 ? [System.now() + byMs] : args, as) as Date,
  get: (target, name, receiver) =>
    name === 'now' ? () => System.now() + byMs : (Reflect.get(target, name, receiver) as unknown),
})
