import { CommandFailed, run, type RunOptions } from '#lib/command.ts'

/** Where a network namespace has its name. */
export const namespacePath = (namespace: string): string => `/run/netns/${namespace}`

/** `ip` in a namespace, or on the host. */
export const ipIn = (namespace: string | undefined): string[] =>
  namespace === undefined ? ['ip'] : ['ip', '-n', namespace]

/** Runs a command in a network namespace. */
export const runIn = (namespace: string, command: readonly string[], options?: RunOptions): Promise<string> =>
  run(['nsenter', `--net=${namespacePath(namespace)}`, ...command], options)

/** Many `ip` commands in one process, in a namespace or on the host; stops at the first that fails. */
export async function ipBatch(
  namespace: string | undefined,
  lines: readonly string[],
  options: RunOptions = {},
): Promise<void> {
  if (!lines.length) return
  await run([...ipIn(namespace), '-batch', '-'], { ...options, input: `${lines.join('\n')}\n` })
}

/** The JSON answers of many `ip … show` commands; one that fails is left out when `lenient`. */
export async function ipShow(
  namespace: string | undefined,
  lines: readonly string[],
  { lenient = false, ...options }: RunOptions & { lenient?: boolean } = {},
): Promise<(unknown[] | undefined)[]> {
  const command = [...ipIn(namespace), ...(lenient ? ['-force'] : []), '-json', '-batch', '-']
  let text: string
  try {
    text = await run(command, { ...options, input: `${lines.join('\n')}\n` })
  } catch (error) {
    if (!lenient || !(error instanceof CommandFailed) || error.missing) throw error
    text = error.stdout
  }
  const answers = text.split('\n').filter((line) => line.trim())
  return answers.map((line) => JSON.parse(line) as unknown[])
}

/** Loads rules in one transaction. */
export const nftLoad = (
  namespace: string | undefined,
  rules: string,
  options: RunOptions = {},
): Promise<string> => {
  const command = ['nft', '-f', '-']
  return namespace
    ? runIn(namespace, command, { ...options, input: rules })
    : run(command, { ...options, input: rules })
}
