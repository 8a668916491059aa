/** Looks names up in the world's DNS, as this machine sees it. */
export interface NamesDriver {
  /** TXT records of a name, each joined to one text; none when there is no such name. `unavailable` when nobody answers. */
  txt(name: string, signal: AbortSignal): Promise<readonly string[]>
}
