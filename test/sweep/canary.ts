import { randomBytes } from 'node:crypto'

type Bird = { readonly label: string; readonly shown: boolean; readonly forms: readonly Buffer[] }

/** Secrets that nobody could write down by chance, and what they look like where somebody did. */
export type Aviary = {
  /** A new secret; `shown` to its own tenant, and kept from everybody else and from logs. */
  plant(label: string, how?: { readonly shown?: boolean }): string
  /** A secret that was made elsewhere, such as a token. */
  adopt(label: string, secret: string): void
  readonly labels: readonly string[]
  /** Labels of the secrets in these bytes, in whatever form. Without `shown`, those that may be shown do not count. */
  foundIn(bytes: Buffer | string, how?: { readonly shown?: boolean }): readonly string[]
}

const CORE_BYTES = 16

/**
 * A secret as it is written: plain, in hexadecimal, in UTF-16, and in base64 at each of the three places where it may begin
 * in what was encoded, without the characters that its neighbours decide. Escapes of JSON, URLs and HTML change no letter of it.
 */
function formsOf(secret: string): Buffer[] {
  const bytes = Buffer.from(secret, 'utf8')
  const aligned = [0, 1, 2].flatMap((before) => {
    const padded = Buffer.concat([Buffer.alloc(before), bytes])
    const whole = padded.subarray(0, padded.length - (padded.length % 3))
    const from = Math.ceil((before * 4) / 3)
    return [whole.toString('base64').slice(from), whole.toString('base64url').slice(from)]
  })
  const hex = bytes.toString('hex')
  const texts = new Set([secret, hex, hex.toUpperCase(), ...aligned])
  return [...[...texts].map((it) => Buffer.from(it, 'latin1')), Buffer.from(secret, 'utf16le')]
}

export function openAviary(): Aviary {
  const birds: Bird[] = []
  return {
    plant(label, { shown = false } = {}) {
      const core = randomBytes(CORE_BYTES).toString('hex')
      birds.push({ label, shown, forms: formsOf(core) })
      return `canary-${core}`
    },
    adopt: (label, secret) => void birds.push({ label, shown: false, forms: formsOf(secret) }),
    get labels() {
      return birds.map((it) => it.label)
    },
    foundIn(bytes, { shown = true } = {}) {
      const all = typeof bytes === 'string' ? Buffer.from(bytes, 'utf8') : bytes
      return birds
        .filter((it) => (shown || !it.shown) && it.forms.some((form) => all.includes(form)))
        .map((it) => it.label)
    },
  }
}
