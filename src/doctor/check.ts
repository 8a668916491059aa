import { messageOf } from '#lib/errors.ts'

/** What a check can matter to, in the order in which a person reads it. */
export const FEATURES = {
  cloud: 'The cloud itself',
  vpcs: 'VPCs',
  pods: 'Pods',
  names: 'Names in VPCs',
  external: 'External addresses',
  reboot: 'After a reboot',
  registry: 'The image registry',
  machines: 'Virtual machines (later; nothing of Arcus uses them yet)',
} as const
export type Feature = keyof typeof FEATURES

/**
 * - `ok`: works.
 * - `limited`: works, with what `seen` says.
 * - `missing`: does not work until it is mended.
 * - `unknown`: could not be looked at, mostly for want of root.
 */
export type State = 'ok' | 'limited' | 'missing' | 'unknown'

/** What a look came to: a sentence, and the command (or what else) that mends it. */
export type Finding = { readonly state: State; readonly seen: string; readonly mend?: string }

export const ok = (seen: string): Finding => ({ state: 'ok', seen })
export const limited = (seen: string, mend: string): Finding => ({ state: 'limited', seen, mend })
export const missing = (seen: string, mend: string): Finding => ({ state: 'missing', seen, mend })
/** For what only root may see. */
export const unseen = (what: string): Finding => ({
  state: 'unknown',
  seen: `${what} can be looked at by root alone`,
  mend: 'sudo ./arcus doctor',
})

/** One look at the host. A probe that throws is `unknown` with what it threw. */
export type Check = {
  readonly id: string
  /** What it matters to, the most important first. */
  readonly features: readonly [Feature, ...Feature[]]
  /** Without it being `ok` or `limited` Arcus does not do what it promises on this host. */
  readonly required: boolean
  readonly probe: () => Finding | Promise<Finding>
}

export type Result = Finding & Omit<Check, 'probe'>

/** How long one look may take. */
const PROBE_SECONDS_MAX = 30

async function lookAt({ probe, ...check }: Check): Promise<Result> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<Finding>((resolve) => {
    timer = setTimeout(
      () => resolve({ state: 'unknown', seen: `no answer within ${PROBE_SECONDS_MAX} s` }),
      PROBE_SECONDS_MAX * 1000,
    )
  })
  try {
    return { ...check, ...(await Promise.race([(async () => await probe())(), late])) }
  } catch (error) {
    return { ...check, state: 'unknown', seen: `could not be looked at: ${messageOf(error)}` }
  } finally {
    clearTimeout(timer)
  }
}

/** Looks at everything, one after the other, so that no look disturbs another's measure. */
export async function examine(checks: readonly Check[]): Promise<readonly Result[]> {
  const results: Result[] = []
  for (const check of checks) results.push(await lookAt(check))
  return results
}

const ORDER: readonly State[] = ['ok', 'limited', 'unknown', 'missing']

/** The worst of what matters to a feature; `unknown` counts only where it is required. */
export function stateOf(feature: Feature, results: readonly Result[]): State | undefined {
  const states = results
    .filter((it) => it.features.includes(feature))
    .map((it) => (it.required || it.state === 'ok' || it.state === 'limited' ? it.state : 'limited'))
  return states.toSorted((a, b) => ORDER.indexOf(b) - ORDER.indexOf(a))[0]
}

/** Whether everything that Arcus requires is there. */
export const isFit = (results: readonly Result[]): boolean =>
  results.every((it) => !it.required || it.state === 'ok' || it.state === 'limited')
