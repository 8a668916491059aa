import { circloud } from './circloud/server.ts'
import { cycle } from './cycle/server.ts'
import type { Dialect } from './http.ts'
import { native } from './native/server.ts'
import { thecloud } from './thecloud/server.ts'

/** Every dialect that the cloud serves. A new one is added here; the sweeps in test/sweep then ask for its table. */
export const DIALECTS: readonly Dialect[] = [circloud, native, thecloud, cycle]
