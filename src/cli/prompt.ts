import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { EXIT, Failure } from './failure.ts'
import type { World } from './world.ts'

const LINE_MAX = 4096

/** Asks at the terminal; what is typed is not shown when `hidden`. */
export async function ask(
  { stdin, stderr, signal }: World,
  question: string,
  hidden = false,
): Promise<string> {
  let shown = true
  const output = new Writable({
    write(chunk: Buffer, _, next) {
      if (shown) stderr.write(chunk)
      next()
    },
  })
  const lines = createInterface({ input: stdin, output, terminal: true })
  try {
    const answer = lines.question(question, { signal })
    shown = !hidden
    return (await answer).trim()
  } finally {
    lines.close()
    if (hidden) stderr.write('\n')
  }
}

/** The first line of standard input, for a secret that is piped in. */
export async function readSecret({ stdin }: World): Promise<string> {
  let text = ''
  for await (const chunk of stdin as AsyncIterable<Buffer>) {
    text += chunk.toString('utf8')
    if (text.includes('\n') || text.length > LINE_MAX) break
  }
  const [line = ''] = text.split(/\r?\n/)
  if (line === '') throw new Failure(EXIT.usage, 'standard input is empty; the secret is expected there')
  return line
}
