import { Counter, Histogram, Registry } from 'prom-client'

const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])
const SECONDS = [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60]

/** Requests by dialect, method, route pattern and status; labels are bounded, a path as typed is never one. */
export type HttpMetrics = {
  /** Where a request like this is counted: to be called once for each, with the seconds from it to the end of its answer. */
  counterOf(path: string, method: string, route: string, status: number): (seconds: number) => void
  /** One of them was answered from memory. */
  remembered(): void
  text(): Promise<string>
}

type Counted = {
  requests: number
  readonly told: Counter.Internal
  readonly count: (seconds: number) => void
}

export function httpMetrics(dialects: readonly string[]): HttpMetrics {
  const registers = [new Registry()]
  const requests = new Counter({
    name: 'arcus_http_requests_total',
    help: 'Requests answered',
    labelNames: ['dialect', 'method', 'route', 'status'],
    registers,
  })
  const durations = new Histogram({
    name: 'arcus_http_request_seconds',
    help: 'From the request to the end of its answer',
    labelNames: ['dialect', 'method', 'route'],
    buckets: SECONDS,
    registers,
  })
  const remembered = new Counter({
    name: 'arcus_http_remembered_total',
    help: 'Requests answered with what an equal one was answered before',
    registers,
  })
  let hits = 0
  /** Of each combination of labels that came up; their number is that of routes and statuses. */
  const counted = new Map<string, Counted>()
  const prefixes = dialects.map((name) => ({ name, path: `/${name}`, below: `/${name}/` }))
  const dialectOf = (path: string): string =>
    prefixes.find((it) => path.startsWith(it.below) || path === it.path)?.name ?? 'root'
  return {
    counterOf(path, method, route, status) {
      const dialect = dialectOf(path)
      const key = `${dialect} ${method} ${status} ${route}`
      const known = counted.get(key)
      if (known) return known.count
      const labels = { dialect, method: METHODS.has(method) ? method : 'other', route }
      const duration = durations.labels(labels)
      const made: Counted = {
        requests: 0,
        told: requests.labels({ ...labels, status }),
        count(seconds) {
          made.requests++
          duration.observe(seconds)
        },
      }
      counted.set(key, made)
      return made.count
    },
    remembered: () => void hits++,
    async text() {
      // Each call of the library writes all labels as one text: once for many requests.
      for (const it of counted.values()) {
        it.told.inc(it.requests)
        it.requests = 0
      }
      remembered.inc(hits)
      hits = 0
      return (await Promise.all(registers.map((it) => it.metrics()))).join('\n')
    },
  }
}
