import type { Engine } from '#engine/engine.ts'
import { authorise, authoriseFirst, type Caller } from './access.ts'
import type { ComputeDriver, ExecSession, LogEntry } from './compute/compute.driver.ts'
import { replica } from './compute/replica.kind.ts'
import { readOf } from './reads.ts'

/** Looking into containers. */
export type Sessions = {
  logs(
    caller: Caller,
    replica: string,
    how: { follow?: boolean; tail?: number; after?: string },
    signal: AbortSignal,
  ): Promise<AsyncIterable<LogEntry>>
  exec(
    caller: Caller,
    replica: string,
    how: { command: readonly string[]; tty: boolean; width?: number; height?: number },
    signal: AbortSignal,
  ): Promise<ExecSession>
}

export function createSessions(engine: Engine, compute: ComputeDriver): Sessions {
  const read = readOf(engine)
  return {
    async logs(caller, id, how, signal) {
      return compute.logs((await read(caller, replica, id)).id, how, signal)
    },
    async exec(caller, id, how, signal) {
      authoriseFirst(caller, 'write', 'instance:update')
      const it = await read(caller, replica, id)
      authorise(caller, 'write', 'instance:update', it)
      await engine.transact(async (draft) => {
        draft.record({
          stream: 'audit',
          tenant: it.tenant,
          subject: it.id,
          what: 'replica.exec',
          body: { subject: caller.subject, credential: caller.credential, address: caller.origin.address },
        })
        await Promise.resolve()
      })
      return await compute.exec(it.id, how, signal)
    },
  }
}
