/** Rows in columns, two spaces apart; the last column is not padded. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows].map((row) => row.map((cell) => oneLine(cell)))
  const widths = header.map((_, at) => Math.max(...all.map((row) => width(row[at] ?? ''))))
  return all
    .map((row) =>
      row
        .map((cell, at) =>
          at === row.length - 1 ? cell : cell + ' '.repeat((widths[at] ?? 0) - width(cell)),
        )
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('')
}

// Names come from people: a control character must not reach the terminal.
// eslint-disable-next-line no-control-regex
const oneLine = (text: string): string => text.replace(/[\x00-\x1f\x7f-\x9f]+/g, ' ').trim() || '-'

const width = (text: string): number => Array.from(text).length

const UNITS = [
  ['d', 86_400],
  ['h', 3600],
  ['m', 60],
] as const

/** `12s`, `5m`, `3h`, `9d`: how long ago a moment was. */
export function age(since: string, nowMs: number): string {
  const seconds = Math.max(0, Math.floor((nowMs - Date.parse(since)) / 1000))
  for (const [unit, size] of UNITS)
    if (seconds >= size * (unit === 'd' ? 2 : 1)) return `${Math.floor(seconds / size)}${unit}`
  return `${seconds}s`
}

/** `512 KiB`, `1.5 GiB`. */
export function bytes(count: number): string {
  let value = count
  let unit = 'B'
  for (const next of ['KiB', 'MiB', 'GiB', 'TiB']) {
    if (value < 1024) break
    value /= 1024
    unit = next
  }
  return `${value >= 100 || Number.isInteger(value) ? Math.round(value) : value.toFixed(1)} ${unit}`
}
