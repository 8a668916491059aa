import { type Feature, FEATURES, isFit, type Result, type State, stateOf } from './check.ts'

const features = Object.keys(FEATURES) as Feature[]

/** Everything as data. */
export const asJson = (results: readonly Result[]): string =>
  `${JSON.stringify(
    {
      fit: isFit(results),
      features: Object.fromEntries(
        features.flatMap((it) => {
          const state = stateOf(it, results)
          return state ? [[it, state]] : []
        }),
      ),
      checks: results,
    },
    null,
    2,
  )}\n`

const STATE_WIDTH = 9

/** A table for a person: by feature, each with what is seen and, where something is amiss, the command that mends it. */
export function asTable(results: readonly Result[]): string {
  const idWidth = Math.max(...results.map((it) => it.id.length)) + 2
  const lines: string[] = []
  for (const feature of features) {
    const some = results.filter((it) => it.features[0] === feature)
    if (some.length === 0) continue
    lines.push(`${FEATURES[feature]}: ${stateOf(feature, results) ?? ''}`)
    for (const it of some) {
      const head = `  ${it.state.padEnd(STATE_WIDTH)}${it.id.padEnd(idWidth)}`
      lines.push(`${head}${oneLine(it.seen)}`)
      if (it.mend !== undefined) lines.push(`${' '.repeat(head.length)}mend: ${oneLine(it.mend)}`)
    }
    lines.push('')
  }
  lines.push(verdict(results))
  return `${lines.join('\n')}\n`
}

// What is seen may come from the host's own files: a control character must not reach the terminal.
// eslint-disable-next-line no-control-regex
const oneLine = (text: string): string => text.replace(/[\x00-\x1f\x7f-\x9f]+/g, ' ').trim()

function verdict(results: readonly Result[]): string {
  const bad = results.filter((it) => it.required && (it.state === 'missing' || it.state === 'unknown'))
  const words: Record<State, string> = { ok: '', limited: '', missing: 'missing', unknown: 'not looked at' }
  if (bad.length === 0) return 'Everything that Arcus requires is here.'
  return `Arcus requires more than is here: ${bad.map((it) => `${it.id} (${words[it.state]})`).join(', ')}.`
}
