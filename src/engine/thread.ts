import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { type Entry, entryFile } from '#lib/entry.ts'
import { CloudError, type ErrorCode, type ErrorDetails, isCloudError, messageOf } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'

/** What went wrong with a request, in a form that crosses between threads. */
export type Refusal =
  | {
      readonly kind: 'refused'
      readonly code: ErrorCode
      readonly message: string
      readonly details: ErrorDetails
    }
  | { readonly kind: 'bug'; readonly message: string; readonly stack: string | undefined }

/** The answer to the request of the same number. */
export type Answer = { readonly n: number; readonly value?: unknown; readonly refusal?: Refusal }

/** Requests that may wait for a thread at once; more are refused `unavailable`. */
const WAITING_MAX = 20_000
/** Requests of one message: the thread begins with them while more are made. */
const MESSAGE_MAX = 32
/** Answers that are handed on in one turn of the event loop. */
const ANSWERS_MAX = 8

/** For the thread's side: the answer to a request that failed. */
export function refusalOf(error: unknown): Refusal {
  if (isCloudError(error))
    return { kind: 'refused', code: error.code, message: error.message, details: error.details }
  return { kind: 'bug', message: messageOf(error), stack: error instanceof Error ? error.stack : undefined }
}

function toError(refusal: Refusal): Error {
  if (refusal.kind === 'refused') return new CloudError(refusal.code, refusal.message, refusal.details)
  const error = new Error(refusal.message)
  if (refusal.stack !== undefined) error.stack = refusal.stack
  return error
}

/**
 * A thread of this process that answers requests. Each message wakes it, so that requests cross in arrays of
 * `{ n, … }`: at once when the thread has nothing to do, else those of a turn of the event loop together. It answers with
 * messages of the type `Turn`, and ends by itself once it has answered `{ do: 'close' }`.
 */
export function startThread<
  Request extends { readonly do: string },
  Turn extends { readonly answers: readonly Answer[] },
>(
  entry: Entry,
  how: { readonly name: string; readonly data: unknown; readonly log: Log; onTurn?(turn: Turn): void },
) {
  const worker = new Worker(entryFile(entry), { workerData: how.data, name: how.name })
  const waiting = new Map<number, { resolve(answer: Answer): void; reject(error: Error): void }>()
  let outbox: (Request & { n: number })[] = []
  let last = 0
  let broken: CloudError | undefined
  let closing: Promise<unknown> | undefined

  /** What was answered and is not handed on yet: who waited goes on with some work each, and others want the event loop too. */
  const inbox: { readonly turn: Turn; at: number }[] = []
  function handOn(left = ANSWERS_MAX): void {
    for (let [first] = inbox; first && left > 0; [first] = inbox) {
      const { turn } = first
      const some = turn.answers.slice(first.at, first.at + left)
      first.at += some.length
      left -= some.length
      for (const answer of some) {
        waiting.get(answer.n)?.resolve(answer)
        waiting.delete(answer.n)
      }
      if (first.at < turn.answers.length) continue
      inbox.shift()
      how.onTurn?.(turn)
    }
    if (inbox.length) setImmediate(() => handOn())
  }
  worker.on('message', (turn: Turn) => {
    if (inbox.push({ turn, at: 0 }) === 1) handOn()
  })
  const fail = (error: unknown): void => {
    if (broken) return
    handOn(Infinity)
    broken = new CloudError('unavailable', `the ${how.name} thread has stopped; restart`, {}, error)
    if (!closing || waiting.size) how.log.error('thread stopped', { thread: how.name, error })
    for (const { reject } of waiting.values()) reject(broken)
    waiting.clear()
  }
  worker.on('error', fail)
  worker.on('exit', fail)

  function post(): void {
    if (outbox.length) worker.postMessage(outbox)
    outbox = []
  }
  async function ask(request: Request): Promise<unknown> {
    if (broken) throw broken
    if (waiting.size >= WAITING_MAX)
      throw new CloudError('unavailable', `too much waits for the ${how.name} thread`, {
        retryAfterSeconds: 1,
      })
    const n = ++last
    if (!outbox.length) {
      if (waiting.size === 0) queueMicrotask(post)
      else setImmediate(post)
    }
    outbox.push({ ...request, n })
    if (outbox.length >= MESSAGE_MAX) post()
    const answer = await new Promise<Answer>((resolve, reject) => waiting.set(n, { resolve, reject }))
    if (answer.refusal) throw toError(answer.refusal)
    return answer.value
  }

  return {
    ask,
    async close(): Promise<void> {
      if (broken) return
      closing ??= Promise.all([once(worker, 'exit'), ask({ do: 'close' } as Request)])
      await closing
    },
  }
}
export type Thread<Request extends { readonly do: string }> = {
  ask(request: Request): Promise<unknown>
  close(): Promise<void>
}

/** Answers requests as a thread would, but in this one: those of one tick in one turn, right after it. */
export function answerHere<
  Request extends { readonly do: string },
  Turn extends { readonly answers: readonly Answer[] },
>(
  serve: (requests: readonly (Request & { readonly n: number })[]) => Iterable<Turn>,
  onTurn: (turn: Turn) => void,
): Thread<Request> {
  const waiting = new Map<number, (answer: Answer) => void>()
  let outbox: (Request & { n: number })[] = []
  let last = 0
  function answerAll(): void {
    const requests = outbox
    outbox = []
    for (const turn of serve(requests)) {
      for (const answer of turn.answers) {
        waiting.get(answer.n)?.(answer)
        waiting.delete(answer.n)
      }
      onTurn(turn)
    }
  }
  const ask = async (request: Request): Promise<unknown> => {
    const n = ++last
    if (!outbox.length) queueMicrotask(answerAll)
    outbox.push({ ...request, n })
    const answer = await new Promise<Answer>((resolve) => waiting.set(n, resolve))
    if (answer.refusal) throw toError(answer.refusal)
    return answer.value
  }
  return { ask, close: async () => void (await ask({ do: 'close' } as Request)) }
}
