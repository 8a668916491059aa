import { connect } from 'node:net'
import type { HealthCheck } from '#cloud/compute/compute.driver.ts'
import type { Clock } from '#lib/clock.ts'
import { request } from '#lib/http.ts'

/** Until the first success a check runs at least this often, so that a workload is ready soon after it can be. */
const FIRST_INTERVAL_MS = 500

/** True when the check passes at `address` within its time. A check by command is Docker's own affair. */
export async function probe(
  address: string,
  check: HealthCheck['check'],
  timeoutMs: number,
): Promise<boolean> {
  if (check.type === 'tcp') return probeTcp(address, check.port, timeoutMs)
  if (check.type === 'http') return probeHttp(address, check.port, check.path, timeoutMs)
  return false
}

const probeTcp = (host: string, port: number, timeoutMs: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ host, port })
    const end = (healthy: boolean) => (): void => {
      socket.destroy()
      resolve(healthy)
    }
    socket.setTimeout(timeoutMs, end(false))
    socket.on('connect', end(true))
    socket.on('error', end(false))
  })

/** Healthy is any answer below 400; a redirect is not followed. */
const probeHttp = (host: string, port: number, path: string, timeoutMs: number): Promise<boolean> =>
  new Promise((resolve) => {
    const signal = AbortSignal.timeout(timeoutMs)
    const ask = request({ host, port, path, agent: false, signal, headers: { 'user-agent': 'arcus-health' } })
    ask.on('response', (response) => {
      response.destroy()
      resolve((response.statusCode ?? 500) < 400)
    })
    ask.on('error', () => resolve(false))
    ask.end()
  })

export type Checked = {
  readonly check: HealthCheck
  readonly startedAtMs: number
  /** Host-reachable address of the container; undefined while its plan is away. */
  address(): string | undefined
}

/** Checks one run of a container until the signal aborts, and tells each change of its health. */
export async function watchHealth(
  it: Checked,
  clock: Clock,
  tell: (healthy: boolean) => void,
  signal: AbortSignal,
): Promise<void> {
  const { check, intervalSeconds, timeoutSeconds, failuresMax, startSeconds } = it.check
  let healthy = false
  let failures = 0
  while (!signal.aborted) {
    const address = it.address()
    const passed = address !== undefined && (await probe(address, check, timeoutSeconds * 1000))
    if (signal.aborted) return
    const starting = clock.now() - it.startedAtMs < startSeconds * 1000
    failures = passed ? 0 : failures + (starting && !healthy ? 0 : 1)
    const now: boolean = passed || (healthy && failures < failuresMax)
    if (now !== healthy) {
      healthy = now
      tell(healthy)
    }
    const pauseMs = intervalSeconds * 1000
    try {
      await clock.sleep(healthy ? pauseMs : Math.min(pauseMs, FIRST_INTERVAL_MS), signal)
    } catch {
      return
    }
  }
}
