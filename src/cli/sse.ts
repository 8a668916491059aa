export type ServerEvent = { readonly event: string; readonly id?: string; readonly data: string }

/** Longest line of a stream; a longer one is not ours. */
const LINE_MAX = 16_777_216

/** The lines of a byte stream, without their ends. */
export async function* linesOf(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of body) {
    rest += decoder.decode(chunk, { stream: true })
    const lines = rest.split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > LINE_MAX) throw new Error(`a line longer than ${LINE_MAX} characters`)
    for (const line of lines) yield line.endsWith('\r') ? line.slice(0, -1) : line
  }
  if (rest !== '') yield rest
}

/** Server-sent events of a byte stream; comments are left out. */
export async function* eventsOf(body: AsyncIterable<Uint8Array>): AsyncGenerator<ServerEvent> {
  let event = 'message'
  let id: string | undefined
  let data: string[] = []
  for await (const line of linesOf(body)) {
    if (line === '') {
      if (data.length) yield { event, data: data.join('\n'), ...(id === undefined ? {} : { id }) }
      event = 'message'
      id = undefined
      data = []
      continue
    }
    const colon = line.indexOf(':')
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (field === 'event') event = value
    else if (field === 'id') id = value
    else if (field === 'data') data.push(value)
  }
}
