import { messageOf } from '#lib/errors.ts'
import { type Check, type Finding, limited, missing, ok, unseen } from './check.ts'
import { type Host, isDenied, isRoot } from './host.ts'

const REGISTRY_MS_MAX = 10_000
const REGISTRY_MS_GOOD_MAX = 2000

/** Opens KVM, makes a machine and gives it a processor; the exit code is the step that failed. */
const VCPU = `
open(my $kvm, "+<", "/dev/kvm") or exit 2;
my $vm = ioctl($kvm, 0xAE01, 0) or exit 3;
open(my $machine, "+<&=", $vm) or exit 3;
ioctl($machine, 0xAE41, 0) or exit 4;
`

async function kvm(host: Host): Promise<Finding> {
  const enable =
    'enable virtualization in the firmware, or nested virtualization where this machine is one itself'
  if (!host.exists('/dev/kvm'))
    return limited('there is no /dev/kvm: machines could only be emulated', enable)
  if (!isRoot(host)) {
    try {
      host.read('/dev/kvm')
    } catch (error) {
      if (isDenied(error)) return unseen('/dev/kvm')
    }
  }
  if (!host.has('perl'))
    return { state: 'unknown', seen: '/dev/kvm is there; it cannot be tried without perl' }
  try {
    await host.run('perl', '-e', VCPU)
    return ok('/dev/kvm makes a machine with a processor')
  } catch (error) {
    return limited(`/dev/kvm is there and makes no machine (${messageOf(error)})`, enable)
  }
}

/** How long the first byte of an answer takes; a registry that wants a login answers too. */
export async function registry(host: Host, address: string, signal: AbortSignal): Promise<Finding> {
  const base = /^https?:\/\//.test(address) ? address : `https://${address}`
  const check = 'see that its name resolves, a way leads there, and its certificate is trusted'
  const since = host.steadyMs()
  try {
    const answer = await fetch(new URL('/v2/', base), { signal, redirect: 'manual' })
    await answer.body?.cancel()
    const ms = Math.round(host.steadyMs() - since)
    const seen = `${address} answers ${answer.status} after ${ms} ms`
    if (answer.status >= 500) return missing(seen, 'ask whoever runs it')
    return ms > REGISTRY_MS_GOOD_MAX ? limited(seen, 'use a nearer one, or a mirror') : ok(seen)
  } catch (error) {
    const cause = (error as { cause?: unknown }).cause ?? error
    return missing(`${address} does not answer (${messageOf(cause)})`, check)
  }
}

/** What lies beyond the host’s own network: a registry, if one is named. */
export const registryChecks = (host: Host, address: string | undefined): readonly Check[] =>
  address === undefined
    ? []
    : [
        {
          id: 'registry',
          features: ['registry', 'pods'],
          required: true,
          probe: () => registry(host, address, AbortSignal.timeout(REGISTRY_MS_MAX)),
        },
      ]

export const machineChecks = (host: Host): readonly Check[] => [
  { id: 'kvm', features: ['machines'], required: false, probe: () => kvm(host) },
]
