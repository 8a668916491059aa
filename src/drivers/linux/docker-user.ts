import { CommandFailed, run } from '#lib/command.ts'

const CHAIN = 'DOCKER-USER'
// Another program may hold the lock of iptables for a moment.
const WAIT = ['-w', '5']

const rulesFor = (prefix: string): string[][] => [
  ['-i', `${prefix}-u+`, '-j', 'ACCEPT'],
  ['-o', `${prefix}-u+`, '-j', 'ACCEPT'],
]

/** The chain's rules as iptables prints them; undefined when there is no such chain, or no iptables and so no Docker that made it. */
async function chainRules(signal: AbortSignal): Promise<string[] | undefined> {
  try {
    return (await run(['iptables', ...WAIT, '-S', CHAIN], { signal })).split('\n')
  } catch (error) {
    if (error instanceof CommandFailed) return undefined
    throw error
  }
}

/** Those of our rules that Docker's chain lacks; none where there is no such chain. */
export async function missingInDocker(prefix: string, signal: AbortSignal): Promise<readonly string[][]> {
  const there = await chainRules(signal)
  return there ? rulesFor(prefix).filter((rule) => !there.includes(`-A ${CHAIN} ${rule.join(' ')}`)) : []
}

/**
 * Docker's forward policy drops what it does not know. Where its chain for the owner's rules exists, ours let through
 * what goes to and from VPCs; what may go there our own table decides, and a drop there is final.
 */
export async function keepDockerOpen(prefix: string, signal: AbortSignal): Promise<void> {
  for (const rule of await missingInDocker(prefix, signal))
    await run(['iptables', ...WAIT, '-I', CHAIN, ...rule], { signal })
}

/** Takes our rules out of Docker's chain, however often they are there. */
export async function releaseDocker(prefix: string, signal: AbortSignal): Promise<void> {
  const there = (await chainRules(signal)) ?? []
  for (const rule of rulesFor(prefix)) {
    const times = there.filter((it) => it === `-A ${CHAIN} ${rule.join(' ')}`).length
    for (let time = 0; time < times; time++)
      await run(['iptables', ...WAIT, '-D', CHAIN, ...rule], { signal })
  }
}
