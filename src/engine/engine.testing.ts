import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type SimulatedClock, simulatedClock } from '#lib/clock.ts'
import { createIds } from '#lib/ids.ts'
import { silentLog } from '#lib/log.ts'
import { createEngine, type Engine, type EngineOptions } from './engine.ts'
import type { AnyKind } from './resource.ts'
import { createKeyring } from './secrets.ts'
import { openSqliteStore } from './store.sqlite.ts'

export type TestEngine = AsyncDisposable & {
  readonly engine: Engine
  readonly clock: SimulatedClock
  readonly directory: string
  /** Closes everything and opens the same folder again, as a new process would. */
  reopen(kinds?: readonly AnyKind[]): Promise<Engine>
}

/** An engine on the real store in a folder of its own, on a simulated clock unless `more` brings another. */
export async function testEngine(
  kinds: readonly AnyKind[],
  more: Partial<EngineOptions> = {},
): Promise<TestEngine> {
  const directory = mkdtempSync(join(tmpdir(), 'arcus-engine-'))
  const simulated = simulatedClock()
  const clock = more.clock ?? simulated
  const ids = createIds(clock)
  const keyring = createKeyring(randomBytes(32))
  const start = async (some: readonly AnyKind[]): Promise<Engine> => {
    const store = await openSqliteStore({ directory, clock, log: silentLog })
    return createEngine({
      store,
      kinds: some,
      clock,
      ids,
      keyring,
      log: silentLog,
      random: () => 0.5,
      ...more,
    })
  }
  let engine = await start(kinds)
  return {
    get engine() {
      return engine
    },
    clock: simulated,
    directory,
    async reopen(some = kinds) {
      await engine.store[Symbol.asyncDispose]()
      return (engine = await start(some))
    },
    async [Symbol.asyncDispose]() {
      await engine.store[Symbol.asyncDispose]()
      rmSync(directory, { recursive: true })
    },
  }
}
