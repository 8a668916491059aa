import { join } from 'node:path'
import { makeBundle } from '#setup/bundle.ts'

// Run by `arcus` from the sources, before there is a bundle.
await makeBundle(join(import.meta.dirname, '..'))
