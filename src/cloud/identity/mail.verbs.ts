import { isIP } from 'node:net'
import { CloudError } from '#lib/errors.ts'
import type { Draft } from '#engine/draft.ts'
import { keyOf, PLATFORM, type Resource } from '#engine/resource.ts'
import { authorise } from '#cloud/access.ts'
import type { VerbContext } from '#cloud/context.ts'
import { mailRelay, type MailRelay } from './mail-relay.kind.ts'
import { message } from './message.kind.ts'

/** Messages that wait at most; the oldest go first. */
const MESSAGES_MAX = 1000
/** Messages to one person in an hour: whoever knows an address cannot fill its mailbox. */
const MESSAGES_PER_PERSON_MAX = 5
const HOUR_MS = 3_600_000

/** Refuses `invalid` what would send a password in the clear, or one without a username. */
export function checkRelay({ host, tls, username, password }: MailRelay['spec']): void {
  const isHere = isIP(host) === 4 ? host.startsWith('127.') : host === '::1' || host === 'localhost'
  if (tls === 'none' && username !== undefined && !isHere)
    throw new CloudError('invalid', 'a username and password need starttls or implicit', {
      field: 'spec.tls',
    })
  if ((username === undefined) !== (password === ''))
    throw new CloudError('invalid', 'goes with a username, and a username with a password', {
      field: 'spec.password',
    })
}

export async function createRelay(
  { draft, caller }: VerbContext,
  input: Pick<Resource, 'name'> & { readonly labels?: Record<string, string>; spec: MailRelay['spec'] },
): Promise<MailRelay> {
  authorise(caller, 'operate', 'mail-relay:create')
  checkRelay(input.spec)
  const made = draft.create(mailRelay, { tenant: PLATFORM, ...input })
  await wakeMessages(draft)
  return made
}

/** What was not sent is looked at again: there is another way for it, or none. */
export async function wakeMessages(draft: Draft): Promise<void> {
  for (const it of await draft.list(message, { tenant: PLATFORM, terms: [], deleted: false }))
    if (it.status.state !== 'sent') draft.wake(keyOf(it))
}

/** Puts a message into the outbox; false, and nothing is done, for who got many in this hour. */
export async function post(
  draft: Draft,
  input: {
    readonly name: string
    /** Id of the user whom it is for. */
    readonly person: string
    readonly to: string
    readonly subject: string
    readonly text: string
    readonly until: number
  },
): Promise<boolean> {
  const { name, person, ...spec } = input
  // Of two that count at once one finds it moved.
  await draft.guard(`messages:${person}`, person)
  const there = await draft.list(message, { tenant: PLATFORM, terms: [], deleted: false })
  const lately = there.filter((it) => it.spec.to === spec.to && it.createdAt > draft.now - HOUR_MS)
  if (lately.length >= MESSAGES_PER_PERSON_MAX) return false
  for (const old of there.slice(0, Math.max(0, there.length - MESSAGES_MAX + 1))) draft.mark(old)
  draft.create(message, { tenant: PLATFORM, name, spec })
  return true
}
