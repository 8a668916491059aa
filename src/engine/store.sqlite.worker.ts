import { DatabaseSync } from 'node:sqlite'
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { openWriter, type Request as Ask, type Turn, type WriterStart } from './store.sqlite.writer.ts'
import type { Answer } from './thread.ts'

type Request = Ask & { readonly n: number }

/** Commits that share one fsync at most. */
const BATCH_MAX = 256

/** Moves the write-ahead log into the database beside the writer, which never waits for it. */
function openCheckpointer(start: WriterStart) {
  const db = new DatabaseSync(start.path)
  db.exec('PRAGMA wal_autocheckpoint = 0')
  const checkpoint = db.prepare('PRAGMA wal_checkpoint(PASSIVE)')
  return (requests: readonly Request[]): Turn[] => {
    const answers = requests.map((request): Answer => {
      if (request.do === 'close') db.close()
      else checkpoint.all()
      return { n: request.n }
    })
    return [{ answers, wrote: false, changed: false, queued: false }]
  }
}

const start = workerData as WriterStart
const port = parentPort
if (!port) throw new Error('this file runs in a worker thread of the store')
const serve = start.role === 'writer' ? openWriter(start) : openCheckpointer(start)

port.on('message', (first: readonly Request[]) => {
  const requests = [...first]
  while (requests.length < BATCH_MAX) {
    const more = receiveMessageOnPort(port) as { message: readonly Request[] } | undefined
    if (!more) break
    requests.push(...more.message)
  }
  for (const turn of serve(requests)) port.postMessage(turn)
  if (requests.some((it) => it.do === 'close')) port.close()
})
