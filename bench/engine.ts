import Docker from 'dockerode'

/** The version of the container engine, undefined when none answers. */
export async function engineVersion(): Promise<string | undefined> {
  try {
    return (await new Docker().version()).Version
  } catch {
    return undefined
  }
}
