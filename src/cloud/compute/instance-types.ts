/** How large an instance can be, and what an hour of it costs. */
export type InstanceType = {
  readonly id: string
  readonly name: string
  readonly category: string
  readonly vcpus: number
  readonly memoryMib: number
  /** For its own files; not enforced. */
  readonly diskGb: number
  /** Not enforced. */
  readonly networkMbps: number
  /** USD. */
  readonly pricePerHour: number
}

const NETWORK_MBPS = 1000
const type = (
  id: string,
  category: string,
  [vcpus, memoryMib, diskGb, pricePerHour]: readonly [number, number, number, number],
): InstanceType => {
  const name = id.replace(/^[a-z]/, (it) => it.toUpperCase()).replace('-', ' ')
  return { id, name, category, vcpus, memoryMib, diskGb, networkMbps: NETWORK_MBPS, pricePerHour }
}

/** Every type, smallest first. */
export const INSTANCE_TYPES: readonly InstanceType[] = [
  type('basic-1', 'basic', [1, 512, 8, 0.005]),
  type('basic-2', 'general-purpose', [1, 1024, 10, 0.02]),
  type('basic-4', 'basic', [2, 2048, 20, 0.02]),
  type('standard-1', 'standard', [2, 2048, 20, 0.02]),
  type('standard-2', 'standard', [2, 4096, 40, 0.04]),
  type('standard-4', 'standard', [4, 8192, 80, 0.08]),
  type('performance-1', 'performance', [4, 16_384, 160, 0.16]),
  type('performance-2', 'performance', [8, 32_768, 320, 0.32]),
]
export const INSTANCE_TYPE_DEFAULT = 'basic-2'
