import Type, { type Static } from 'typebox'
import type { Caller } from '#cloud/access.ts'
import type { Cloud, NewInstance } from '#cloud/cloud.ts'
import { sshKey } from '#cloud/compute/ssh-key.kind.ts'
import { subnet } from '#cloud/network/subnet.kind.ts'
import { vpc } from '#cloud/network/vpc.kind.ts'
import { volume } from '#cloud/storage/volume.kind.ts'
import { CloudError } from '#lib/errors.ts'
import { StringMap } from './instance.ts'
import { byIdOrName } from './lookup.ts'
import { Text } from './schema.ts'

const PORTS_MAX = 10
const PORT_MAX = 65_535
const LIST_MAX = 256
const Reference = Type.Optional(Type.String({ maxLength: 255, description: 'UUID or name.' }))
const Whole = Type.Optional(Type.Integer({ minimum: 0 }))

export const Launch = Type.Object({
  name: Type.String({
    minLength: 1,
    maxLength: 64,
    pattern: '^\\s*[\\p{L}\\p{N}_-]+\\s*$',
    title: 'letters, digits, - and _',
  }),
  image: Text(256),
  instance_type: Type.Optional(Type.String({ maxLength: 64, default: 'basic-2' })),
  ports: Type.Optional(
    Type.String({
      maxLength: 1024,
      description: `\`host:container\`, separated by commas, ${PORTS_MAX} at most; host port 0 takes a free one. TCP.`,
    }),
  ),
  vpc_id: Reference,
  subnet_id: Reference,
  volumes: Type.Optional(
    Type.Array(
      Type.Object({ volume_id: Text(255), mount_path: Type.String({ pattern: '^/', maxLength: 1024 }) }),
      {
        maxItems: LIST_MAX,
      },
    ),
  ),
  volume_binds: Type.Optional(
    Type.Array(Type.String({ maxLength: 1300, description: '`<volume>:<mount path>`' }), {
      maxItems: LIST_MAX,
    }),
  ),
  env: Type.Optional(
    Type.Array(Type.String({ maxLength: 32_768, description: '`NAME=value`' }), { maxItems: LIST_MAX }),
  ),
  cmd: Type.Optional(Type.Array(Type.String({ maxLength: 4096 }), { maxItems: LIST_MAX })),
  cpu_limit: Whole,
  memory_limit: Whole,
  disk_limit: Whole,
  ssh_key_id: Reference,
  metadata: Type.Optional(StringMap),
  labels: Type.Optional(StringMap),
})

/** `host:container` pairs; `invalid`, rule `port_format`, for what is none, `conflict`, rule `too_many`, for too many. */
export function parsePorts(text: string): { host: number; container: number }[] {
  const parts = text.split(',').filter((it) => it.trim() !== '')
  if (parts.length > PORTS_MAX)
    throw new CloudError('conflict', `An instance has at most ${PORTS_MAX} ports`, { rule: 'too_many' })
  return parts.map((part) => {
    const [, host, container] = /^\s*(\d{1,5}):(\d{1,5})\s*$/.exec(part) ?? []
    const ports = { host: Number(host), container: Number(container) }
    if (
      container === undefined ||
      ports.container === 0 ||
      ports.host > PORT_MAX ||
      ports.container > PORT_MAX
    )
      throw new CloudError(
        'invalid',
        `must be pairs as 30080:80, up to ${PORT_MAX}; host port 0 takes a free one`,
        {
          field: 'ports',
          rule: 'port_format',
        },
      )
    return ports
  })
}

function envOf(lines: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    lines.map((line) => {
      const at = line.indexOf('=')
      if (at < 1) throw new CloudError('invalid', 'must be entries as NAME=value', { field: 'env' })
      return [line.slice(0, at), line.slice(at + 1)]
    }),
  )
}

const bindOf = (text: string): { volume_id: string; mount_path: string } => {
  const at = text.indexOf(':')
  if (at < 1) throw new CloudError('invalid', 'must be entries as volume:/path', { field: 'volume_binds' })
  return { volume_id: text.slice(0, at), mount_path: text.slice(at + 1) }
}

/** What is to be launched, with everything that it names looked up. */
export async function launchOf(
  cloud: Cloud,
  caller: Caller,
  body: Static<typeof Launch>,
): Promise<Omit<NewInstance, 'vpc' | 'subnet'> & { vpc?: string; subnet?: string }> {
  const published = parsePorts(body.ports ?? '').map((it) => ({ ...it, protocol: 'tcp' as const }))
  const mounts = []
  for (const it of [...(body.volumes ?? []), ...(body.volume_binds ?? []).map(bindOf)])
    mounts.push({
      volume: (await byIdOrName(cloud, caller, volume, it.volume_id, 'Volume')).id,
      path: it.mount_path,
    })
  const inVpc =
    body.vpc_id === undefined ? undefined : await byIdOrName(cloud, caller, vpc, body.vpc_id, 'VPC')
  const inSubnet =
    body.subnet_id === undefined
      ? undefined
      : await byIdOrName(cloud, caller, subnet, body.subnet_id, 'Subnet')
  const key =
    body.ssh_key_id === undefined
      ? undefined
      : await byIdOrName(cloud, caller, sshKey, body.ssh_key_id, 'SSH key')
  const { instance_type: type, cpu_limit: vcpus, memory_limit: memoryBytes, disk_limit: diskBytes } = body
  return {
    name: body.name.trim(),
    image: body.image,
    ...(type === undefined ? {} : { type }),
    ...(inVpc ? { vpc: inVpc.id } : {}),
    ...(inSubnet ? { subnet: inSubnet.id } : {}),
    env: envOf(body.env ?? []),
    ...(body.cmd ? { command: body.cmd } : {}),
    volumes: mounts,
    ...(published.length ? { published } : {}),
    ...(key ? { sshKey: key.id } : {}),
    metadata: body.metadata ?? {},
    labels: body.labels ?? {},
    ...(vcpus ? { vcpus } : {}),
    ...(memoryBytes ? { memoryBytes } : {}),
    ...(diskBytes ? { diskBytes } : {}),
  }
}
