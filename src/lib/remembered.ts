const all = new WeakSet<object>()

/** What a function makes of each thing, made once and kept for as long as that thing; nobody may change what it gives. */
export function remembered<From extends object, To extends object>(make: (it: From) => To): (it: From) => To {
  const made = new WeakMap<From, To>()
  return (it) => {
    const known = made.get(it)
    if (known) return known
    const fresh = make(it)
    made.set(it, fresh)
    all.add(fresh)
    return fresh
  }
}

const texts = new WeakMap<object, string>()

/** As JSON; the text of what is remembered is made once. */
export function jsonOf(value: unknown): string {
  if (typeof value !== 'object' || value === null || !all.has(value)) return JSON.stringify(value)
  const known = texts.get(value)
  if (known !== undefined) return known
  const text = JSON.stringify(value)
  texts.set(value, text)
  return text
}
