import type { SweptDialect } from './dialect.ts'
import { circloud } from './circloud.table.ts'
import { cycle } from './cycle.table.ts'
import { native } from './native.table.ts'
import { thecloud } from './thecloud.table.ts'

/** The table of every dialect. A dialect that is served and not here fails the sweeps. */
export const TABLES: readonly SweptDialect[] = [circloud, native, thecloud, cycle]
