import type { VerbContext } from './context.ts'

/** Verbs that are not bound to a commit yet; `whole` is all of them, bound to the same one. */
export type Unbound<Verbs extends object> = {
  readonly [K in keyof Verbs]: (context: VerbContext, whole: Verbs) => Verbs[K]
}

/**
 * Binds verbs to commits. Each is bound when it is asked for: there are a hundred, of which a commit uses one or two, and
 * what was made for it waits with it until it is on disk.
 */
export function binder<Verbs extends object>(unbound: Unbound<Verbs>): (context: VerbContext) => Verbs {
  const verbs = Object.create(null) as object
  for (const [name, bind] of Object.entries<(context: VerbContext, whole: Verbs) => unknown>(unbound))
    Object.defineProperty(verbs, name, {
      get(this: Verbs & { readonly context: VerbContext }) {
        return bind(this.context, this)
      },
    })
  return (context) => ({ __proto__: verbs, context }) as unknown as Verbs
}
