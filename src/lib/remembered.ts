/** What a function makes of each thing, made once and kept for as long as that thing; nobody may change what it gives. */
export function remembered<From extends object, To extends object>(make: (it: From) => To): (it: From) => To {
  const all = new WeakMap<From, To>()
  return (it) => {
    const known = all.get(it)
    if (known) return known
    const made = make(it)
    all.set(it, made)
    return made
  }
}
