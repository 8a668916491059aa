import { StringDecoder } from 'node:string_decoder'

const LINE_CHARS_MAX = 4 * 1024 * 1024

/**
 * The lines of a byte stream, without their ends; a last one without an end too. Throws what the stream fails with, and
 * when a line is longer than `charsMax`.
 */
export async function* linesOf(
  stream: AsyncIterable<Uint8Array | string>,
  charsMax = LINE_CHARS_MAX,
): AsyncGenerator<string, void, undefined> {
  const decoder = new StringDecoder('utf8')
  let rest = ''
  for await (const chunk of stream) {
    rest += typeof chunk === 'string' ? chunk : decoder.write(Buffer.from(chunk))
    const lines = rest.split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) yield line.endsWith('\r') ? line.slice(0, -1) : line
    if (rest.length > charsMax) throw new Error(`a line is longer than ${charsMax} characters`)
  }
  rest += decoder.end()
  if (rest) yield rest
}
