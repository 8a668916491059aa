import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { readIfThere, writeAtomically } from '#lib/files.ts'
import { referenceOf } from '#lib/image-reference.ts'
import { linesOf } from '#lib/lines.ts'
import type { DockerApi, RegistryLogin } from './docker.ts'
import { reasonOf, statusOf } from './docker.ts'
import { openPrivatePulls } from './private-pulls.ts'
import type { KeptWish } from './wishes.ts'

/** A pull that says nothing for so long is given up. */
const PULL_SILENCE_MS = 180_000
const PULL_MS_MAX = 3_600_000
/** How often it is told how far a pull is. */
const TELL_EVERY_MS = 500

export type Progress = { readonly doneBytes: number; readonly totalBytes: number }

/** Why an image cannot be had. `final`: another try would end the same. `passing`: it may work later. */
export class FetchFailure extends Error {
  readonly what: 'final' | 'passing'
  constructor(what: FetchFailure['what'], message: string) {
    super(message)
    this.what = what
  }
}
const failure = (reference: string, reason: string): FetchFailure =>
  new FetchFailure(isFinal(reason) ? 'final' : 'passing', pullMessage(reference, reason))

const FINAL =
  /not found|manifest unknown|does not exist|denied|unauthorized|authentication required|no basic auth|invalid reference|no matching manifest|forbidden|unsupported/i
const PASSING =
  /no such host|timeout|timed out|refused|unreachable|toomanyrequests|reset by peer|EOF|server misbehaving/i

/** True when a registry's answer will not change by asking again. */
export const isFinal = (message: string): boolean => FINAL.test(message) && !PASSING.test(message)

type Pull = {
  readonly done: Promise<void>
  waiting: number
  progress: Progress
  readonly stop: AbortController
}

/** An image, for whom and by whose login. */
export type Wanted = Pick<KeptWish, 'tenant' | 'image'> & {
  readonly registry?: { readonly server: string; readonly username: string }
}

/**
 * Images by wish: pulled when they are not here. An image that a login brought is for those who hold that login: another
 * wish for it has to show its own right with a pull, which moves no data when the image is here.
 */
export type Images = {
  /** Ends when the image is here; `login` is the wish's own, opened. `onProgress` is called when it is pulled, from the beginning on. */
  fetch(
    wish: Wanted,
    login: RegistryLogin | undefined,
    onProgress: (progress: Progress) => void,
    signal: AbortSignal,
  ): Promise<void>
  /** Whether it is here, for whoever wants it. */
  has(wish: Wanted): Promise<boolean>
}

export async function openImages(api: DockerApi, directory: string): Promise<Images> {
  const path = join(directory, 'private-images.json')
  const grants = new Map(
    Object.entries(JSON.parse((await readIfThere(path)) ?? '{}') as Record<string, readonly string[]>),
  )
  const begun = await openPrivatePulls(api, directory)
  const pulls = new Map<string, Pull>()
  let saving: Promise<void> = Promise.resolve()
  const save = (): Promise<void> => {
    saving = saving
      .catch(() => {})
      .then(() => writeAtomically(path, JSON.stringify(Object.fromEntries(grants))))
    return saving
  }

  const pullOnce = async (
    reference: string,
    holder: string | undefined,
    login: RegistryLogin | undefined,
    pull: Pull,
  ) => {
    if (holder === undefined) {
      await runPull(api, reference, login, pull)
      const id = await pulled(reference)
      await begun.clear(id)
      if (grants.delete(id)) await save()
      return
    }
    const before = await api.imageIds()
    const mine = await begun.begin(reference)
    try {
      await runPull(api, reference, login, pull)
    } catch (error) {
      // When Docker cannot be asked either, what it has stays in doubt.
      await begun.failed(mine).catch(() => {})
      throw error
    }
    const id = await pulled(reference)
    // What was here for everyone stays so, though a private registry has the same under another name.
    const isPublic = before.has(id) && !grants.has(id) && !(await begun.mayHaveBrought(id, mine))
    if (!isPublic) {
      grants.set(id, [...new Set([...(grants.get(id) ?? []), holder])])
      await save()
    }
    await begun.noted(mine)
  }
  const pulled = async (reference: string): Promise<string> => {
    const id = await api.image(reference)
    if (id === undefined) throw new FetchFailure('passing', 'the image was pulled and is not there')
    return id
  }

  const share = (key: string, start: (pull: Pull) => Promise<void>): Pull => {
    const running = pulls.get(key)
    if (running && !running.stop.signal.aborted) return running
    const stop = new AbortController()
    const begun = Promise.withResolvers<void>()
    const pull: Pull = { done: begun.promise, waiting: 0, progress: { doneBytes: 0, totalBytes: 0 }, stop }
    pulls.set(key, pull)
    const end = (): void => {
      if (pulls.get(key) === pull) pulls.delete(key)
    }
    start(pull).then(begun.resolve, begun.reject).finally(end)
    begun.promise.catch(() => {})
    return pull
  }

  const holderFor = (wish: Wanted): string | undefined =>
    wish.registry && holderOf(wish.tenant, wish.registry)
  const has = async (wish: Wanted): Promise<boolean> => {
    const id = await api.image(referenceOf(wish.image))
    if (id === undefined) return false
    const holders = grants.get(id)
    const holder = holderFor(wish)
    if (!holders) return !(await begun.mayHaveBrought(id))
    return holder !== undefined && holders.includes(holder)
  }

  return {
    has,
    async fetch(wish, login, onProgress, signal) {
      if (await has(wish)) return
      // A pull without a tag would fetch every one.
      const reference = referenceOf(wish.image)
      const holder = holderFor(wish)
      // The login is part of the key: a wrong password must not ride on another's pull.
      const key = [reference, wish.tenant, login ? digest(JSON.stringify(login)) : ''].join(' ')
      const pull = share(key, (it) => pullOnce(reference, holder, login, it))
      pull.waiting++
      onProgress(pull.progress)
      const tell = setInterval(() => onProgress(pull.progress), TELL_EVERY_MS)
      try {
        await untilAborted(pull.done, signal)
      } finally {
        clearInterval(tell)
        if (--pull.waiting === 0) pull.stop.abort()
      }
    },
  }
}

const digest = (text: string): string => createHash('sha256').update(text).digest('base64url')
const holderOf = (tenant: string, registry: { server: string; username: string }): string =>
  digest(JSON.stringify([tenant, registry.server, registry.username]))

function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) return Promise.reject(signal.reason as Error)
  const stop = Promise.withResolvers<never>()
  const abort = (): void => stop.reject(signal.reason as Error)
  signal.addEventListener('abort', abort, { once: true })
  return Promise.race([work, stop.promise]).finally(() => signal.removeEventListener('abort', abort))
}

type PullLine = {
  readonly id?: string
  readonly status?: string
  readonly error?: string
  readonly progressDetail?: { readonly current?: number; readonly total?: number }
}

async function runPull(
  api: DockerApi,
  reference: string,
  login: RegistryLogin | undefined,
  pull: Pull,
): Promise<void> {
  const silence = new AbortController()
  const signal = AbortSignal.any([pull.stop.signal, silence.signal, AbortSignal.timeout(PULL_MS_MAX)])
  const layers = new Map<string, { done: number; total: number }>()
  const timer = setTimeout(() => silence.abort(), PULL_SILENCE_MS)
  try {
    const stream = await api.pull(reference, login, signal)
    for await (const text of linesOf(stream)) {
      if (!text) continue
      timer.refresh()
      const line = JSON.parse(text) as PullLine
      if (line.error !== undefined) throw failure(reference, line.error)
      pull.progress = addUp(layers, line)
    }
  } catch (error) {
    if (error instanceof FetchFailure) throw error
    if (pull.stop.signal.aborted) throw error
    if (silence.signal.aborted) throw failure(reference, 'timed out, the registry sent nothing more')
    const reason = reasonOf(error)
    if (statusOf(error) !== undefined) throw failure(reference, reason)
    throw new FetchFailure('passing', pullMessage(reference, reason))
  } finally {
    clearTimeout(timer)
  }
}

const pullMessage = (reference: string, reason: string): string => `cannot pull ${reference}: ${reason}`

/** Pure but for `layers`: one line of Docker's progress added to what is known of each layer. */
export function addUp(layers: Map<string, { done: number; total: number }>, line: PullLine): Progress {
  if (line.id !== undefined) {
    const layer = layers.get(line.id) ?? { done: 0, total: 0 }
    const { current, total } = line.progressDetail ?? {}
    if (line.status === 'Downloading' && current !== undefined) {
      layers.set(line.id, { done: current, total: Math.max(total ?? 0, current) })
    } else if (line.status === 'Download complete' || line.status === 'Pull complete') {
      layers.set(line.id, { done: layer.total, total: layer.total })
    }
  }
  let doneBytes = 0
  let totalBytes = 0
  for (const { done, total } of layers.values()) {
    doneBytes += done
    totalBytes += total
  }
  return { doneBytes, totalBytes }
}
