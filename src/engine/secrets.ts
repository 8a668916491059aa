/** Seals secrets at rest. `binding` (kind, id, field) is authenticated, so a sealed text is worthless elsewhere. */
export type Keyring = {
  seal(plain: string, binding: string): string
  /** Throws when the text was not sealed by this key for this binding. */
  open(sealed: string, binding: string): string
  isSealed(text: string): boolean
}
