import { Command, InvalidArgumentError, Option } from 'commander'
import { type Client, createClient } from './client.ts'
import { type Flags, resolveConnection } from './config.ts'
import { type Format, FORMATS } from './output.ts'
import type { World } from './world.ts'

/** What a command works with. */
export type Context = {
  readonly client: Client
  readonly world: World
  readonly flags: Flags
  readonly format: Format
}

export type Register = (program: Command, world: World, done: Done) => void
/** Called with the exit code of the command that ran. */
export type Done = (code: number) => void

/** The command's action: connects, runs it, and reports its exit code (0 when it gives none). */
export const action =
  <A extends readonly unknown[], O>(
    world: World,
    done: Done,
    run: (context: Context, args: A, options: O) => Promise<number | void>,
  ) =>
  async (...given: unknown[]): Promise<void> => {
    const command = given.at(-1) as Command
    const options = command.optsWithGlobals<Flags & { output?: Format }>()
    const connection = await resolveConnection(options, world)
    const context = {
      client: createClient(connection, world.signal),
      world,
      flags: options,
      format: options.output ?? 'table',
    }
    done((await run(context, given.slice(0, -2) as unknown as A, options as O)) ?? 0)
  }

export const outputOption = (): Option =>
  new Option('-o, --output <format>', 'how to print').choices(FORMATS).default('table')

export const WAIT_SECONDS = 300
const WAIT_SECONDS_MAX = 86_400

export const waitOption = (what: string): Option =>
  new Option('--wait [seconds]', `wait until ${what}, ${WAIT_SECONDS} s unless told`)
    .preset(String(WAIT_SECONDS))
    .argParser(wholeSeconds)

function wholeSeconds(text: string): number {
  const seconds = Number(text)
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > WAIT_SECONDS_MAX)
    throw new InvalidArgumentError(`a whole number of seconds up to ${WAIT_SECONDS_MAX} is needed.`)
  return seconds
}

/** A parser of whole numbers within bounds, both included. */
export const wholeNumber =
  (min: number, max: number) =>
  (text: string): number => {
    const value = Number(text)
    if (text.trim() === '' || !Number.isInteger(value) || value < min || value > max)
      throw new InvalidArgumentError(`a whole number from ${min} to ${max} is needed.`)
    return value
  }

/** Collects an option that may be given several times. */
export const collect = (value: string, before: readonly string[] = []): string[] => [...before, value]
