import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'
import { HOST_ADVICE, statusWord } from '#cloud/states.ts'
import { DISK_FORMATS } from './disk-images.driver.ts'
import { Progress } from './progress.ts'

/** Of the address that an image is imported from. */
const URL_LENGTH_MAX = 2048

/** An image of a disk, which virtual machines begin with; a container's image is no resource but a reference to a registry. */
export const diskImage = defineKind({
  name: 'image',
  spec: Type.Object(
    {
      os: Type.String({ minLength: 1, maxLength: 128 }),
      version: Type.String({ minLength: 1, maxLength: 128 }),
      description: Type.Optional(Type.String({ maxLength: 1024 })),
      /** Everybody may see it, in every tenant. */
      public: Type.Boolean(),
      /** Where its content is fetched from, whole: that may hold a key. Absent: its content is uploaded. */
      url: Type.Optional(Type.String({ maxLength: URL_LENGTH_MAX })),
      /** The same as it is shown: without what may be secret. */
      source: Type.Optional(Type.String({ maxLength: URL_LENGTH_MAX })),
      /** How often its content was uploaded. */
      uploads: Type.Optional(Type.Integer({ minimum: 1 })),
      creator: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({
    /** `pending`: waits for an upload. `loading`: its content is on its way. */
    state: Type.Enum(['pending', 'loading', 'active', 'error']),
    message: Type.Optional(Type.String()),
    progress: Type.Optional(Progress),
    format: Type.Optional(Type.Enum([...DISK_FORMATS])),
    sizeBytes: Type.Optional(Type.Integer()),
    sha256: Type.Optional(Type.String()),
    /** Fetches that failed in a row, and when the next is due. */
    failures: Type.Optional(Type.Integer()),
    retryAt: Type.Optional(Type.Integer()),
  }),
  initial: { state: 'pending' },
  immutable: ['creator'],
  secret: ['url'],
  // As long as an import may take.
  settleSecondsMax: 10_800,
  states: {
    pending: { advice: `Upload its content. ${HOST_ADVICE}`, fine: true },
    loading: {
      advice: 'Its content is on its way; when that takes too long, delete it and import another',
    },
    active: { advice: HOST_ADVICE, fine: true },
    error: { advice: 'Upload its content again, or name another address (its `url`) to import it from' },
    deleting: { advice: HOST_ADVICE },
  },
  state: statusWord,
  terms: (r) => [`state:${r.status.state}`, ...(r.spec.public ? ['public'] : [])],
})
export type DiskImage = ResourceOf<typeof diskImage>
