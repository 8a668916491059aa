import { isCloudError, messageOf } from '#lib/errors.ts'

const USAGE = 2
const FAILED = 1

/** Runs a command: an expected refusal is one sentence, usage exits 2, everything else that is thrown exits 1. */
export async function runCommand(name: string, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!isCloudError(error)) console.error(error)
    const usage = isCloudError(error, 'invalid')
    console.error(`arcus: ${messageOf(error)}${usage ? ` (see \`arcus ${name} --help\`)` : ''}`)
    process.exitCode = usage ? USAGE : FAILED
  }
}
