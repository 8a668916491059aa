import type { Operation, Schema } from './document.ts'
import type { Answer, Json } from './ask.ts'
import type { Seeded } from './world.ts'

/**
 * Who may do an operation. `hidden`: only an administrator knows that there is such a thing; to everybody else it is as if
 * it did not exist. `self`: whoever has a credential, and it changes something that is the caller's own.
 */
export type Need = 'open' | 'self' | 'read' | 'write' | 'own' | 'operate' | 'hidden'

/** Values for parameters and body fields by name; `vpc id` (the first part of the path, then the name) goes before `id`. */
export type Known = Readonly<Record<string, string>>

/** An administrator's hands in a running cloud, whichever dialect is swept. */
export type Hands = {
  /** A call of the native API in a tenant, or in none; its path without prefix. */
  native(method: string, path: string, how?: { body?: Json; tenant?: string }): Promise<Answer>
  /** Lets reality follow for a moment. */
  settle(): Promise<void>
}

/** With what somebody asks, who may act in a tenant: as its owner, or as one of its replicas through the socket of that. */
export type Credential = { readonly token: string; readonly socketPath?: string }

export const ownOf = (table: SweptDialect, of: Seeded): Credential =>
  table.inside ? of.instance : { token: of.owner }

/** What cannot be derived of a dialect from its OpenAPI document. A new dialect is swept when it has one in dialects.ts. */
export type SweptDialect = {
  readonly name: string
  /** It is for workloads, each through a socket of its own: nobody has a role, and nobody else has a credential. */
  readonly inside?: true
  /** A document beside the one that is served: what it declares must be served, `except` for these operations. */
  readonly contract?: { readonly file: URL; readonly except: (operation: Operation) => boolean }
  /** How a caller shows a token to an operation. */
  headers(operation: Operation, token: string): Readonly<Record<string, string>>
  /** Headers by which a caller names the tenant to act in. */
  inTenant?(tenant: string): Readonly<Record<string, string>>
  need(operation: Operation): Need
  /** The status of each refusal, as the contract wants it. `foreign` are what another tenant's id may answer. */
  readonly statuses: {
    readonly unauthenticated: number
    readonly forbidden: number
    readonly foreign: readonly number[]
  }
  /** What says to come again later, with `retry-after`, where the contract has no 429. */
  readonly later?: number
  /** The shape of every refusal. */
  readonly refusal: Schema
  /** The sentence in a refusal's body. */
  messageOf(body: unknown): unknown
  /** What names one resource of each kind in this dialect; `token` is the caller's own. */
  known(of: Seeded, token: string): Known
  /** A good body where a schema does not say enough to make one. */
  readonly bodies?: Readonly<Record<string, (known: Known, unique: string) => Json>>
  /** Good queries, for operations that need one. */
  readonly queries?: Readonly<Record<string, (known: Known) => string>>
  /** Operations that are there to say no, to those who are entitled as well, with what they say. */
  readonly always?: Readonly<Record<string, number>>
  /** Operations that no policy can deny, since they are about no resource or show nothing of those that are denied. */
  readonly undeniable?: readonly string[]
  /** Operations over a WebSocket, whose refusals may come in its first frame. */
  readonly sockets?: readonly string[]
  /** Makes the world ready for the entitled call, where one of each kind is not enough. */
  readonly before?: Readonly<Record<string, (hands: Hands, of: Seeded) => Promise<void>>>
  /** Fields named like secrets that are none, and fields that repeat the caller's own token. */
  readonly notSecret?: readonly string[]
  readonly ownToken?: readonly string[]
  /** Secrets that must have a form: how one is made with these letters in it, by `POST /kind spec.field`. */
  readonly secretForms?: Readonly<Record<string, (letters: string) => string>>
  /** The field of a kind's creation from which a secret of its spec comes, where it is called otherwise: `user passwordHash`. */
  readonly derivedSecrets?: Readonly<Record<string, string>>
  /** Secrets that nobody types: the platform makes them. */
  readonly madeSecrets?: readonly string[]
  /** Logins, by name and password. */
  readonly logins?: Readonly<Record<string, (username: string, password: string) => Json>>
}
