import { createHistogram } from 'node:perf_hooks'
import autocannon from 'autocannon'
import type { Hit, Shot } from './load.ts'

// The client of the benches: a process of its own, so that it takes no time of the server that it measures.

const SAMPLE_MS = 100
const MICROS_PER_MS = 1000
/** Bodies sent so far, so that no two are alike. */
let made = 0

/** The next request of a shot whose requests differ. */
const own = (it: autocannon.Request, { url, body, distinct }: Shot): autocannon.Request => {
  const number = String(++made)
  return {
    ...it,
    ...(body === undefined ? {} : { body: body.replace('[<id>]', number) }),
    ...(distinct === 'query' ? { path: `${new URL(url).pathname}?number=${number}` } : {}),
    ...(distinct === 'header' ? { headers: { ...it.headers, 'x-number': number } } : {}),
  }
}

async function fire(shot: Shot): Promise<Hit> {
  const seconds = shot.forMs / 1000
  // Autocannon's own holds whole milliseconds, of which a fast answer takes none.
  const micros = createHistogram()
  const result = await autocannon({
    url: shot.url,
    ...(shot.socketPath === undefined ? {} : { socketPath: shot.socketPath }),
    method: shot.method ?? 'GET',
    headers: { ...shot.headers },
    connections: shot.connections,
    setupClient: (client) =>
      client.on('response', (_status, _bytes, ms) =>
        micros.record(Math.max(1, Math.round(ms * MICROS_PER_MS))),
      ),
    duration: seconds,
    // It ends at a sample: with the default of a second it would go on for longer than asked.
    sampleInt: SAMPLE_MS,
    ...(shot.body === undefined && shot.distinct === undefined
      ? {}
      : { requests: [{ setupRequest: (it) => own(it, shot) }] }),
  })
  return {
    answered: result['2xx'],
    perSecond: result['2xx'] / result.duration,
    latencyP50Ms: result.latency.p50,
    latencyP99Ms: micros.percentile(99) / MICROS_PER_MS,
    failed: result.non2xx + result.errors + result.timeouts,
  }
}

process.on('message', (shot: Shot) => {
  fire(shot).then(
    (hit) => process.send?.(hit),
    (error: unknown) => process.send?.({ error: String(error) }),
  )
})
process.on('disconnect', () => process.exit(0))
console.log(JSON.stringify({ ready: true }))
