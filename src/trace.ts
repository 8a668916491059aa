import { existsSync, readFileSync } from 'node:fs'
import { SourceMap, type SourceMapPayload } from 'node:module'
import { text } from 'node:stream/consumers'
import { runCommand } from '#setup/main.ts'
import { parse } from '#setup/options.ts'

const HELP = `Usage: arcus trace <LOG

Prints what it reads with the sources in place of the bundle: every FILE.js:LINE:COLUMN of a stack trace, as far as that
bundle is still there. Running processes do not do it by themselves: what says it for one takes some 60 MB.`

/** A place in a bundle, as Node's traces and our logs have it. */
const PLACE = /(?:file:\/\/)?(\/[^\s:()"\\]+\.js):(\d+):(\d+)/g
/** A source as a map names it, which may lead from a copy of the bundle to nowhere. */
const SOURCE = /(?:^|\/)((?:src|node_modules)\/.*)$/

const maps = new Map<string, SourceMap | undefined>()

function mapOf(file: string): SourceMap | undefined {
  if (!maps.has(file)) {
    const path = `${file}.map`
    const payload = existsSync(path) && (JSON.parse(readFileSync(path, 'utf8')) as SourceMapPayload)
    maps.set(file, payload ? new SourceMap(payload) : undefined)
  }
  return maps.get(file)
}

function sourceOf(place: string, file: string, line: string, column: string): string {
  // Both count from one in a trace and from zero in a map.
  const found = mapOf(file)?.findEntry(Number(line) - 1, Number(column) - 1)
  if (!found || !('originalSource' in found)) return place
  const [, source = found.originalSource] = SOURCE.exec(found.originalSource) ?? []
  return `${source}:${found.originalLine + 1}:${found.originalColumn + 1}`
}

await runCommand('trace', async () => {
  const { help } = parse(process.argv.slice(2), { help: { type: 'boolean', short: 'h' } })
  if (help) return console.log(HELP)
  process.stdout.write((await text(process.stdin)).replaceAll(PLACE, sourceOf))
})
