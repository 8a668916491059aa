/** What a figure should come to. `ratio` is ours by the peer's; `value` is ours alone. */
export type Aim = {
  readonly of: 'ratio' | 'value'
  readonly is: 'at least' | 'at most'
  readonly limit: number
}

/** One comparison of two things that were run in turn. */
export type Figure = {
  readonly bench: string
  readonly what: string
  readonly unit: string
  readonly ours: number
  /** What ours was held against. */
  readonly against: string
  readonly peer: number
  /** The median of the rounds' own ratios, so that it need not be `ours / peer` to the last digit. */
  readonly ratio: number
  readonly aim?: Aim
  readonly rounds: { readonly ours: readonly number[]; readonly peer: readonly number[] }
  /** What else was measured meanwhile, by name with its unit. */
  readonly also?: Readonly<Record<string, number>>
}

export type Measured = Pick<Figure, 'ours' | 'peer' | 'ratio' | 'rounds'>

export const atLeast = (of: Aim['of'], limit: number): Aim => ({ of, is: 'at least', limit })
export const atMost = (of: Aim['of'], limit: number): Aim => ({ of, is: 'at most', limit })

/** Undefined when the figure has no aim. */
export function isMet({ aim, ...it }: Figure): boolean | undefined {
  if (!aim) return undefined
  const value = aim.of === 'ratio' ? it.ratio : it.ours
  return aim.is === 'at least' ? value >= aim.limit : value <= aim.limit
}
