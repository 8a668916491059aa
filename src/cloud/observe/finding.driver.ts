/** What a host is made of, as far as Arcus makes it. */
export const THINGS = [
  'container',
  'docker network',
  'endpoint',
  'namespace',
  'link',
  'address',
  'route',
  'rule',
  'table',
  'neighbour',
  'flow',
  'setting',
  'mount',
  'socket',
  'file',
  'process',
  'volume',
  'image',
  'zone',
  'front',
  'certificate',
] as const
export type Thing = (typeof THINGS)[number]

/** One way in which the host is not as it should be. */
export type Difference = {
  /** `orphan`: there, and nothing knows it. `missing`: should be there. `drift`: there, and not as it should be. */
  readonly what: 'orphan' | 'missing' | 'drift'
  readonly thing: Thing
  /** Which one and how it differs, for people: `route to 10.0.0.5/32 missing`. Never holds a secret. */
  readonly detail: string
}

/** A difference that a driver found on its host by comparing it with what it holds. */
export type Finding = Difference & {
  /** Whose it is, as far as the host can tell; absent for the host's own part and for what nobody is known to own. */
  readonly of?: { readonly kind: 'vpc' | 'replica' | 'workload'; readonly id: string }
  /** When it came to be, in milliseconds, where that can be told. */
  readonly since?: number
  /**
   * Who puts it right: the driver's own `mend`, the next look at the one that it is of (`owner`), or a person with a
   * command, for what is not the driver's to touch.
   */
  readonly mend: 'driver' | 'owner' | { readonly command: string }
}

/** What each driver says of its host beyond what its lists tell: its own part, and what was left over. */
export interface Audited {
  /** Looks and changes nothing. What is being made or removed at the moment may show. */
  audit(signal: AbortSignal): Promise<readonly Finding[]>
  /**
   * Looks again and puts right what is the driver's to mend; gives that. Nothing that is not ours, by name, label or
   * folder, is touched. Idempotent.
   */
  mend(signal: AbortSignal): Promise<readonly Finding[]>
}

/** A finding with what puts it right, when that is the driver's to do. */
export type Repair = { readonly finding: Finding; readonly fix?: (signal: AbortSignal) => Promise<unknown> }

/** `audit` and `mend` from one look. A fix that fails leaves the others to be made, and is told to `failed`. */
export const auditedBy = (
  look: (signal: AbortSignal) => Promise<readonly Repair[]>,
  failed: (finding: Finding, error: unknown) => void,
): Audited => ({
  audit: async (signal) => (await look(signal)).map((it) => it.finding),
  async mend(signal) {
    const mended: Finding[] = []
    for (const { finding, fix } of await look(signal)) {
      if (finding.mend !== 'driver' || !fix) continue
      try {
        await fix(signal)
        mended.push(finding)
      } catch (error) {
        signal.throwIfAborted()
        failed(finding, error)
      }
    }
    return mended
  },
})
