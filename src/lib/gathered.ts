/**
 * What comes from a source, in pieces of everything that came while the reader was busy with the piece before. Ends, or
 * throws, as the source does, once what came before that is read. The source is told to end by its signal, also when
 * nobody reads on.
 */
export async function* gathered<T>(
  open: (signal: AbortSignal) => AsyncIterable<T>,
  signal: AbortSignal,
): AsyncGenerator<readonly T[], void, undefined> {
  const left = new AbortController()
  let piece: T[] = []
  let isOver = false
  let more = Promise.withResolvers<void>()
  const read = async (): Promise<void> => {
    try {
      for await (const it of open(AbortSignal.any([signal, left.signal]))) {
        piece.push(it)
        more.resolve()
      }
    } finally {
      isOver = true
      more.resolve()
    }
  }
  const reading = read()
  // Thrown below, when it is this one's turn.
  reading.catch(() => {})
  try {
    while (!isOver) {
      await more.promise
      more = Promise.withResolvers()
      for (let came = piece; came.length > 0; came = piece) {
        piece = []
        yield came
      }
    }
    await reading
  } finally {
    left.abort()
  }
}
