/** What an exit code of the CLI means; `exec` gives the command's own. */
export const EXIT = {
  ok: 0,
  /** The cloud said no. */
  refused: 1,
  usage: 2,
  unreachable: 3,
  /** Not settled, or not gone, in the time given to --wait. */
  late: 4,
} as const

/** An expected end: `message` for the person, `hint` what to do next, `exitCode` for the script. */
export class Failure extends Error {
  override readonly name = 'Failure'
  readonly exitCode: number
  readonly hint: string | undefined
  /** The cloud's own code for a refusal. */
  readonly code: string | undefined
  constructor(exitCode: number, message: string, hint?: string, code?: string) {
    super(message)
    this.exitCode = exitCode
    this.hint = hint
    this.code = code
  }
}

/** True for the cloud's answer that something is not there. */
export const isMissing = (error: unknown): boolean => error instanceof Failure && error.code === 'not_found'

export const usage = (message: string, hint?: string): Failure => new Failure(EXIT.usage, message, hint)
