/** A server that takes mail for people (SMTP submission), and who writes to them. */
export type Relay = {
  readonly host: string
  readonly port: number
  /** `starttls`: refused when the server does not offer it. `implicit`: TLS from the first byte. */
  readonly tls: 'starttls' | 'implicit' | 'none'
  readonly login?: { readonly user: string; readonly password: string }
  readonly from: string
  /** PEM of a private authority that signed the server's certificate. */
  readonly trust?: string
}

/** `id` is the same at each try, so that a reader's mailbox can tell a mail that came twice. */
export type Mail = {
  readonly id: string
  readonly to: string
  readonly subject: string
  readonly text: string
}

/** `final`: the same server will say the same to another try. */
export type SeenMail =
  | { readonly state: 'sending' }
  | { readonly state: 'sent' }
  | { readonly state: 'failed'; readonly message: string; readonly final: boolean }

/** Hands mail to a relay. */
export interface MailDriver {
  /** Begins a try and answers before it is over; does nothing while one of this id is under way. */
  send(relay: Relay, mail: Mail): Promise<void>
  /** How the last try of this process stands; undefined when there was none. */
  observe(id: string): Promise<SeenMail | undefined>
  /** Forgets how it went. */
  forget(id: string): Promise<void>
}
