import { Counter, Histogram, Registry } from 'prom-client'

const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])
const SECONDS = [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60]

/** Requests by dialect, method, route pattern and status; labels are bounded, a path as typed is never one. */
export function httpMetrics(dialects: readonly string[]): {
  count(path: string, method: string, route: string, status: number, seconds: number): void
  text(): Promise<string>
} {
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
  /** Of each combination of labels that came up, where it is counted; their number is that of routes and statuses. */
  const counted = new Map<
    string,
    { readonly request: Counter.Internal; readonly duration: Histogram.Internal<string> }
  >()
  const dialectOf = (path: string): string =>
    dialects.find((it) => path === `/${it}` || path.startsWith(`/${it}/`)) ?? 'root'
  return {
    count(path, method, route, status, seconds) {
      const dialect = dialectOf(path)
      const key = `${dialect} ${method} ${status} ${route}`
      let it = counted.get(key)
      if (!it) {
        const labels = { dialect, method: METHODS.has(method) ? method : 'other', route }
        it = { request: requests.labels({ ...labels, status }), duration: durations.labels(labels) }
        counted.set(key, it)
      }
      it.request.inc()
      it.duration.observe(seconds)
    },
    text: async () => (await Promise.all(registers.map((it) => it.metrics()))).join('\n'),
  }
}
