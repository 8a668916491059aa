import { messageOf } from '#lib/errors.ts'
import { slots } from '#lib/slots.ts'
import type { Mail, MailDriver, Relay, SeenMail } from '#cloud/identity/mail.driver.ts'

/** Mails on their way at once. */
const SENDING_MAX = 4
const CONNECT_MS_MAX = 10_000
/** Without a word of the server's. */
const SILENCE_MS_MAX = 30_000
/** One try, from its turn on. */
const TRY_MS_MAX = 60_000
const WORDS_LENGTH_MAX = 500

/** A refusal as the library throws it; `responseCode` is the server's, where it answered. */
type Refusal = { readonly responseCode?: number; readonly code?: string }

/** Hands mail to an SMTP server. What it speaks with is loaded with the first mail: most clouds never send one. */
export function smtpMail(): MailDriver {
  const tries = new Map<string, SeenMail>()
  const slot = slots(SENDING_MAX)
  const attempt = async (relay: Relay, mail: Mail): Promise<SeenMail> => {
    try {
      await slot(async () => await inTime(handOver(relay, mail)))
      return { state: 'sent' }
    } catch (error) {
      const { responseCode = 0, code } = error as Refusal
      const message = `${relay.host}:${relay.port}: ${messageOf(error)}`.slice(0, WORDS_LENGTH_MAX)
      return { state: 'failed', message, final: responseCode >= 500 && code !== 'ETLS' }
    }
  }
  return {
    async send(relay, mail) {
      if (tries.get(mail.id)?.state === 'sending') return await Promise.resolve()
      tries.set(mail.id, { state: 'sending' })
      void attempt(relay, mail).then((seen) => {
        if (tries.has(mail.id)) tries.set(mail.id, seen)
      })
    },
    observe: async (id) => await Promise.resolve(tries.get(id)),
    forget: async (id) => await Promise.resolve(void tries.delete(id)),
  }
}

async function handOver(relay: Relay, { id, to, subject, text }: Mail): Promise<void> {
  const { createTransport } = await import('nodemailer')
  const { host, port, tls, login, from, trust } = relay
  const transport = createTransport({
    host,
    port,
    secure: tls === 'implicit',
    requireTLS: tls === 'starttls',
    ignoreTLS: tls === 'none',
    ...(login ? { auth: { user: login.user, pass: login.password } } : {}),
    ...(trust === undefined ? {} : { tls: { ca: trust } }),
    connectionTimeout: CONNECT_MS_MAX,
    dnsTimeout: CONNECT_MS_MAX,
    greetingTimeout: CONNECT_MS_MAX,
    socketTimeout: SILENCE_MS_MAX,
    disableFileAccess: true,
    disableUrlAccess: true,
  })
  try {
    const messageId = `<${id}@${from.slice(from.indexOf('@') + 1)}>`
    await transport.sendMail({ from, to, subject, text, messageId })
  } finally {
    transport.close()
  }
}

async function inTime(work: Promise<void>): Promise<void> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(
    () => late.reject(new Error(`it took longer than ${TRY_MS_MAX / 1000} s`)),
    TRY_MS_MAX,
  )
  try {
    await Promise.race([work, late.promise])
  } finally {
    clearTimeout(timer)
  }
}
