import type { Audited, Finding } from '#cloud/observe/finding.driver.ts'
import type { Fault } from './network.ts'

/** What tests leave on a simulated host for its audit to find. */
export type Littered = {
  /** Something that differs: found by each audit until `mend`, if it is the driver's to mend, or `clear` takes it away. */
  litter(finding: Finding): { clear(): void }
}

/** The audit of a host that exists only in memory: it finds what was littered. */
export function simulatedAudit(fault: Fault): Audited & Littered {
  const litter = new Set<Finding>()
  return {
    litter(finding) {
      litter.add(finding)
      return { clear: () => void litter.delete(finding) }
    },
    async audit() {
      await fault('audit', '')
      return [...litter]
    },
    async mend() {
      await fault('mend', '')
      const mended = [...litter].filter((it) => it.mend === 'driver')
      for (const it of mended) litter.delete(it)
      return mended
    },
  }
}
