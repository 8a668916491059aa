import { PLATFORM } from '#engine/resource.ts'
import { mailRelay } from '#cloud/identity/mail-relay.kind.ts'
import { message } from '#cloud/identity/message.kind.ts'
import { asAdmin } from './stuck.edge.testing.ts'
import type { Case, Ground } from './stuck.testing.ts'

// Every way for a message to hang: a relay that does not answer or refuses it, a cloud that cannot ask.

const BROKEN = new Error('Cannot find package nodemailer')

async function relayed(ground: Ground): Promise<string> {
  const spec = { host: 'mail.example', from: 'cloud@example.com' }
  return await asAdmin(ground, async (verbs) => (await verbs.create(mailRelay, { name: 'relay', spec })).id)
}

const posted = async (ground: Ground): Promise<string> =>
  await ground.it.engine.transact(async (draft) => {
    const spec = { to: 'ann@example.com', subject: 'Hello', text: 'A text' }
    return await Promise.resolve(draft.create(message, { tenant: PLATFORM, name: 'hello', spec }).id)
  })

export const MAIL_CASES: readonly Case[] = [
  {
    kind: 'message',
    state: 'waiting',
    title: 'it cannot be looked at',
    async stick(ground) {
      await relayed(ground)
      ground.fail('mail.observe', BROKEN)
      return await posted(ground)
    },
    says: /Cannot find package nodemailer/,
    free: (ground) => ground.mend(),
  },
  {
    kind: 'message',
    state: 'waiting',
    title: 'it cannot be handed over',
    async stick(ground) {
      await relayed(ground)
      ground.fail('mail.send', BROKEN)
      return await posted(ground)
    },
    says: /Cannot find package nodemailer/,
    free: (ground) => ground.mend(),
  },
  {
    kind: 'message',
    state: 'sending',
    title: 'nothing is heard of it',
    async stick(ground) {
      await relayed(ground)
      ground.it.mail.answer({ state: 'sending' })
      const id = await posted(ground)
      await ground.settle(100)
      ground.fail('mail.observe', BROKEN)
      return id
    },
    says: /Cannot find package nodemailer/,
    free(ground) {
      ground.it.mail.answer()
      ground.mend()
    },
  },
  {
    kind: 'message',
    state: 'failed',
    title: 'the relay does not take it',
    ended: true,
    async stick(ground) {
      await relayed(ground)
      ground.it.mail.answer({ state: 'failed', message: '535 authentication failed', final: true })
      const id = await posted(ground)
      await ground.settle()
      return id
    },
    says: /535 authentication failed/,
    async free(ground) {
      ground.it.mail.answer()
      await asAdmin(ground, async (verbs) => {
        const spec = { username: 'arcus', password: 'the right one' }
        await verbs.patch(mailRelay, (await verbs.list(mailRelay, []))[0]?.id ?? '', { spec })
      })
    },
  },
  {
    kind: 'message',
    state: 'deleting',
    title: 'it cannot be forgotten',
    async stick(ground) {
      const id = await posted(ground)
      await ground.settle()
      ground.fail('mail.forget', BROKEN)
      await asAdmin(ground, async (verbs) => await verbs.remove(message, id))
      return id
    },
    says: /Cannot find package nodemailer/,
    free: (ground) => ground.mend(),
  },
]
