import { isAhead } from '#lib/clock.ts'
import type { Draft } from '#engine/draft.ts'
import { PLATFORM } from '#engine/resource.ts'
import { again, gone, type Outcome, type Reconcile, settled } from '#engine/reconcile.ts'
import { mailRelay, type MailRelay } from './mail-relay.kind.ts'
import type { MailDriver, Relay, SeenMail } from './mail.driver.ts'
import type { Message } from './message.kind.ts'

/** Tries of one message by one relay: the last about half an hour after the first. */
export const MAIL_TRIES_MAX = 7
/** Before the second try; each further one waits twice as long. */
const RETRY_MS = 30_000
/** How soon it is seen how a try went. */
const LOOK_EVERY_MS = 500
/** Looks for a relay, beside those that setting one brings on. */
const RELAY_LOOK_EVERY_MS = 60_000

type Status = Message['status']
type Planned = { readonly outcome: Outcome<Status>; readonly send?: true }

/** After so many tries. */
const pauseMs = (tries = 1): number => RETRY_MS * 2 ** (tries - 1)

const STOPPED = 'the cloud was stopped while it was sent; it may have arrived'

/** What is to be done with a message. `relay` is how the one there is now is written down, undefined for none. Pure. */
export function planMessage(
  { spec, status: had }: Pick<Message, 'spec' | 'status'>,
  relay: string | undefined,
  seen: SeenMail | undefined,
  now: number,
): Planned {
  const end = (status: Status): Planned => ({ outcome: settled(status) })
  if (had.state === 'sent') return end(had)
  if (seen?.state === 'sent') return end({ state: 'sent', sentAt: now, ...triesOf(had) })
  if (seen?.state === 'sending') return { outcome: again(LOOK_EVERY_MS, 'it is being sent', had) }
  const same = had.relay === relay
  if (relay !== undefined && same && had.state === 'failed') return end(had)
  if (had.state === 'sending' && same && had.retryAt === undefined && relay !== undefined) {
    const { message, final } = seen ?? { message: STOPPED, final: false }
    const tries = had.tries ?? 1
    if (final || tries >= MAIL_TRIES_MAX) return end({ state: 'failed', message, tries, relay })
    const waitMs = pauseMs(tries)
    const status: Status = { state: 'sending', message, tries, relay, retryAt: now + waitMs }
    return { outcome: again(waitMs, message, status) }
  }
  const lapsed = spec.until !== undefined && now >= spec.until
  if (relay === undefined)
    return { outcome: settled({ state: 'waiting' }, lapsed ? undefined : RELAY_LOOK_EVERY_MS) }
  if (lapsed) return end({ state: 'failed', message: 'it was of no more use before it could be sent', relay })
  if (same && had.retryAt !== undefined && isAhead(had.retryAt, pauseMs(had.tries), now))
    return { outcome: again(had.retryAt - now, had.message ?? 'it is to be sent again', had) }
  const tries = (same ? (had.tries ?? 0) : 0) + 1
  return {
    outcome: again(LOOK_EVERY_MS, 'it is being sent', { state: 'sending', tries, relay }),
    send: true,
  }
}

const triesOf = ({ tries }: Status): Pick<Status, 'tries'> => (tries === undefined ? {} : { tries })

/** The relay as the driver is told. */
function relayOf(draft: Draft, it: MailRelay): Relay {
  const { host, port, tls, username, from, trust } = it.spec
  const password = draft.open(it, 'password') ?? ''
  return {
    host,
    port,
    tls,
    from,
    ...(username === undefined ? {} : { login: { user: username, password } }),
    ...(trust === undefined ? {} : { trust }),
  }
}

/** Mails a message where there is a relay. A try is written down with the look that begins it. */
export const reconcileMessage =
  (mail: MailDriver): Reconcile<Message> =>
  async (it, { draft }) => {
    if (it.deletedAt !== undefined) {
      await mail.forget(it.id)
      return gone
    }
    const [relay] = await draft.list(mailRelay, { tenant: PLATFORM, terms: [], deleted: false })
    const named = relay && `${relay.id} ${relay.generation}`
    const { outcome, send } = planMessage(it, named, await mail.observe(it.id), draft.now)
    if (send && relay)
      await mail.send(relayOf(draft, relay), {
        id: it.id,
        to: it.spec.to,
        subject: it.spec.subject,
        text: draft.open(it, 'text') ?? '',
      })
    return outcome
  }
