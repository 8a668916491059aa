import { Counter, Gauge, Registry } from 'prom-client'
import type { Store } from '#engine/store.ts'

/** What of the audits is counted. */
export type Audits = {
  known(): readonly { readonly what: string; readonly thing: string }[]
  repairs(): ReadonlyMap<string, number>
}

/** The cloud's own figures as Prometheus text. */
export function createMetrics(store: Store, audits: Audits): { text(): Promise<string> } {
  const registers = [new Registry()]
  const gauge = (name: string, help: string): Gauge => new Gauge({ name, help, registers })
  const gauges = {
    resources: gauge('arcus_resources', 'Resources in the store'),
    queued: gauge('arcus_queue_keys', 'Keys in the work queue'),
    commits: gauge('arcus_commits', 'Commits since the start'),
    batches: gauge('arcus_commit_batches', 'Durable batches that the commits shared since the start'),
  }
  const findings = new Gauge({
    name: 'arcus_findings',
    help: 'Differences between the records and the host that the last audit found',
    labelNames: ['what', 'thing'],
    registers,
  })
  const repairs = new Counter({
    name: 'arcus_repairs_total',
    help: 'Differences that were found and put right since the start',
    labelNames: ['thing'],
    registers,
  })
  return {
    async text() {
      const stats = await store.stats()
      for (const [name, it] of Object.entries(gauges)) it.set(stats[name as keyof typeof gauges])
      findings.reset()
      for (const { what, thing } of audits.known()) findings.inc({ what, thing })
      repairs.reset()
      for (const [thing, count] of audits.repairs()) repairs.inc({ thing }, count)
      return (await Promise.all(registers.map((it) => it.metrics()))).join('\n')
    },
  }
}
