import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { type Figure, isMet } from './figure.ts'

const BEGIN = '<!-- bench: made by `npm run bench -- --readme` -->'
const END = '<!-- /bench -->'

/** Three digits that count. */
const short = (value: number): string =>
  Math.abs(value) >= 100 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)))

function aimOf(it: Figure): string {
  if (!it.aim) return ''
  const { of, is, limit } = it.aim
  const sign = is === 'at least' ? '≥' : '≤'
  const text = of === 'ratio' ? `${sign} ${limit} ×` : `${sign} ${short(limit)} ${it.unit.split(' ')[0]}`
  return `${text} ${isMet(it) ? '✓' : '✗'}`
}

/** The figures as a Markdown table. */
export function table(figures: readonly Figure[]): string {
  const rows = [
    ['what', 'Arcus', 'against', 'peer', 'ratio', 'aim'],
    ...figures.map((it) => [
      it.what,
      `${short(it.ours)} ${it.unit}`,
      it.against,
      short(it.peer),
      it.ratio.toFixed(2),
      aimOf(it),
    ]),
  ]
  const lines = rows.map((cells) => `| ${cells.join(' | ')} |`)
  return [lines[0], '| --- | ---: | --- | ---: | ---: | --- |', ...lines.slice(1)].join('\n')
}

/** What the machine is that the figures come from, in one line. */
export function machine(cores: number, memoryBytes: number): string {
  return `${cores} cores, ${Math.round(memoryBytes / 2 ** 30)} GiB, Node ${process.version.slice(1)}`
}

/** Puts text between the two marks of a file; throws when it has none. */
export function writeBetweenMarks(path: string, text: string): void {
  const whole = existsSync(path) ? readFileSync(path, 'utf8') : ''
  const [begin, end] = [whole.indexOf(BEGIN), whole.indexOf(END)]
  if (begin < 0 || end < begin) throw new Error(`${path} has no place for the figures: ${BEGIN} … ${END}`)
  writeFileSync(path, `${whole.slice(0, begin + BEGIN.length)}\n\n${text}\n\n${whole.slice(end)}`)
}
