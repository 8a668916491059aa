import type { Mail, MailDriver, Relay, SeenMail } from '#cloud/identity/mail.driver.ts'
import type { Fault } from './network.ts'

export type SimulatedMail = MailDriver & {
  /** What the relay took, in order. */
  readonly sent: { readonly relay: Relay; readonly mail: Mail }[]
  /** How each try ends from now on; undefined: the relay takes it. */
  answer(how?: SeenMail): void
  /** As after a new start of the process: no try is known. */
  restart(): void
}

/** A relay that keeps what it is given. */
export function simulatedMail(fault: Fault = () => {}): SimulatedMail {
  const tries = new Map<string, SeenMail>()
  const sent: SimulatedMail['sent'] = []
  let answer: SeenMail | undefined
  return {
    sent,
    answer: (how) => void (answer = how),
    restart: () => tries.clear(),
    async send(relay, mail) {
      await fault('send', mail.id)
      if (!answer) sent.push({ relay, mail })
      tries.set(mail.id, answer ?? { state: 'sent' })
    },
    async observe(id) {
      await fault('observe', id)
      const seen = tries.get(id)
      return seen?.state === 'sending' ? (answer ?? { state: 'sent' }) : seen
    },
    async forget(id) {
      await fault('forget', id)
      tries.delete(id)
    },
  }
}
