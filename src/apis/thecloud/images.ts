import Type, { type Static } from 'typebox'
import { diskImage, type DiskImage as Resource } from '#cloud/compute/disk-image.kind.ts'
import { DISK_IMAGE_BYTES_MAX, formatOf } from '#cloud/compute/disk-images.driver.ts'
import { takesItsTime } from '#apis/listener.ts'
import { fileOfForm, FORM_BYTES_MAX } from '#apis/multipart.ts'
import { CloudError } from '#lib/errors.ts'
import { INVALID_INPUT } from './errors.ts'
import { type Frame, operation } from './operation.ts'
import { DONE_MS_MAX } from './reads.ts'
import { Message, NIL, Status, Text, timestamp, Timestamp, Uuid } from './schema.ts'

const GIB = 1_073_741_824
/** DISK_IMAGE_BYTES_MAX as people say it. */
const GIB_MAX = DISK_IMAGE_BYTES_MAX / GIB

const Image = Type.Object({
  id: Uuid,
  name: Type.String(),
  description: Type.String(),
  os: Type.String(),
  version: Type.String(),
  size_gb: Type.Integer({ description: 'GiB, rounded up; 1 at least.' }),
  file_path: Type.String({ description: 'Name of its file; empty while there is none.' }),
  format: Type.String({ description: '`qcow2`, `img`, `raw` or `iso`.' }),
  is_public: Type.Boolean(),
  user_id: Uuid,
  tenant_id: Uuid,
  source_url: Type.Optional(
    Type.String({ description: 'Where it was imported from, without what may be secret of that.' }),
  ),
  status: Type.Enum(['PENDING', 'ACTIVE', 'ERROR', 'DELETING']),
  created_at: Timestamp,
  updated_at: Timestamp,
})

const STATUS = { pending: 'PENDING', loading: 'PENDING', active: 'ACTIVE', error: 'ERROR' } as const

function encode({ id, name, tenant, spec, status, ...it }: Resource): Static<typeof Image> {
  const format = status.format ?? formatOf(spec.source ?? '')
  return {
    id,
    name,
    description: spec.description ?? '',
    os: spec.os,
    version: spec.version,
    size_gb: Math.max(1, Math.ceil((status.sizeBytes ?? 0) / GIB)),
    file_path: status.state === 'active' ? `${id}.${format}` : '',
    format,
    is_public: spec.public,
    user_id: spec.creator ?? NIL,
    tenant_id: tenant,
    ...(spec.source === undefined ? {} : { source_url: spec.source }),
    status: it.deletedAt === undefined ? STATUS[status.state] : 'DELETING',
    created_at: timestamp(it.createdAt),
    updated_at: timestamp(it.updatedAt),
  }
}

const About = {
  name: Text(255),
  os: Text(128),
  version: Text(128),
  description: Type.Optional(Type.String({ maxLength: 1024 })),
  is_public: Type.Optional(Type.Boolean({ default: false, description: 'Everybody sees it.' })),
}
type About = Static<ReturnType<typeof Type.Object<typeof About>>>

const inputOf = ({ is_public: isPublic = false, ...about }: About) => ({ ...about, public: isPublic })

const common = { tag: 'Images', tenancy: 'optional' as const }
const one = { ...common, params: { id: Uuid }, refuses: [404] as const }
// The contract has no other answer for what the state of an image does not allow, nor for a sender that falls silent.
const refusals = { conflict: INVALID_INPUT, unavailable: INVALID_INPUT }

export function imageRoutes(frame: Frame): void {
  const { cloud } = frame
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/images',
    id: 'listImages',
    summary: 'Images of disks: the tenant’s own and what is public, oldest first',
    answer: Type.Array(Image),
    run: async ({ caller }) => (await cloud.images.all(caller)).map(encode),
  })
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/images',
    id: 'registerImage',
    summary: 'Register an image, whose content is uploaded then',
    body: Type.Object(About),
    answer: Image,
    status: 201,
    async run({ caller, body }) {
      const input = inputOf(body)
      return encode(await cloud.act(caller, 'image.create', (verbs) => verbs.createDiskImage(input)))
    },
  })
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/images/import',
    id: 'importImage',
    summary: 'Have an image fetched from an address, in the background',
    description: `The format is what the address ends with: \`.qcow2\`, \`.img\`, \`.raw\` or \`.iso\`, qcow2 otherwise; ${GIB_MAX} GiB at most. Addresses of this machine and of private networks are refused.`,
    body: Type.Object({ ...About, url: Type.String({ pattern: '^https?://', maxLength: 2048 }) }),
    answer: Image,
    status: 202,
    async run({ caller, body: { url, ...body } }) {
      const input = { ...inputOf(body), url }
      return encode(await cloud.act(caller, 'image.import', (verbs) => verbs.createDiskImage(input)))
    },
  })
  operation(frame, {
    ...one,
    method: 'GET',
    path: '/images/:id',
    id: 'getImage',
    summary: 'Read an image',
    answer: Image,
    run: async ({ caller, params }) => encode(await cloud.images.get(caller, params.id)),
  })
  operation(frame, {
    ...one,
    method: 'DELETE',
    path: '/images/:id',
    id: 'deleteImage',
    summary: 'Delete an image and its content; for who made it and owners of its tenant',
    answer: Message('image deleted'),
    async run({ caller, params }) {
      await cloud.act(caller, 'image.delete', (verbs) => verbs.deleteDiskImage(params.id))
      return { message: 'image deleted' as const }
    },
  })
  void frame.app.register(async (scope) => {
    // Read by the operation, as it comes.
    scope.addContentTypeParser(/^multipart\/form-data(;|$)/i, (_request, _body, done) => done(null))
    uploadRoute({ ...frame, app: scope.withTypeProvider() })
    await Promise.resolve()
  })
}

function uploadRoute(frame: Frame): void {
  const { cloud } = frame
  operation(frame, {
    ...one,
    method: 'POST',
    path: '/images/:id/upload',
    id: 'uploadImage',
    summary: 'Upload the content of an image; for who made it and owners of its tenant',
    description: `The format is what the name of the file ends with: \`.qcow2\`, \`.img\`, \`.raw\` or \`.iso\`, qcow2 otherwise; ${GIB_MAX} GiB at most. A qcow2 image has to be whole: one that stands on another file is refused.`,
    file: true,
    body: Type.Object({ file: Type.String({ format: 'binary' }) }),
    answer: Status('uploaded'),
    refusals,
    async run({ caller, params, request: { raw } }) {
      await cloud.images.upload(caller, params.id, async (keep) => {
        const length = Number(raw.headers['content-length'] ?? NaN)
        if (length > DISK_IMAGE_BYTES_MAX + FORM_BYTES_MAX)
          throw new CloudError('invalid', `is more than ${GIB_MAX} GiB`, { field: 'file', rule: 'too_large' })
        // About its size: the form has a little beside it.
        const total = Number.isNaN(length) ? {} : { totalBytes: Math.min(length, DISK_IMAGE_BYTES_MAX) }
        const giveBack = takesItsTime(raw)
        try {
          await fileOfForm(raw, 'file', async (file) => await keep({ ...file, ...total }))
        } finally {
          giveBack()
        }
      })
      await cloud.settled(caller, diskImage, params.id, DONE_MS_MAX)
      return { status: 'uploaded' as const }
    },
  })
}
