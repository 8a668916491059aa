import { createPrivateKey, X509Certificate } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { isAhead } from '#lib/clock.ts'
import { CloudError, isCloudError, messageOf } from '#lib/errors.ts'
import type { Draft } from '#engine/draft.ts'
import { ALL, PLATFORM } from '#engine/resource.ts'
import { again, gone, type Look, type Outcome, type Reconcile, settled } from '#engine/reconcile.ts'
import { provider } from '#cloud/network/provider.kind.ts'
import { acme } from './acme.kind.ts'
import { certificate, type Certificate } from './certificate.kind.ts'
import type { FrontCertificate } from './front.driver.ts'
import type { Handover } from './handover.ts'
import type {
  Challenge,
  DnsAccess,
  IssuedCertificate,
  Issuers,
  Publish,
  TxtRecords,
} from './issuer.driver.ts'

type Status = Certificate['status']
type Issued = Status & Required<Pick<Status, 'chain' | 'key' | 'notBefore' | 'notAfter' | 'renewAt'>>

const RETRY_MS_MIN = 10_000
const RETRY_MS_MAX = 3_600_000
const MINUTE_MS = 60_000
const HANDING_OVER = 'waits for the edge to take it'
/** Timers that reach further are set again on the way. */
const LOOK_AGAIN_MS_MAX = 86_400_000

/** What a chain says of itself; renewed at two thirds of its life. */
export function readChain(
  chain: string,
): Pick<Issued, 'notBefore' | 'notAfter' | 'renewAt' | 'serial' | 'fingerprint256' | 'issuer'> {
  const leaf = new X509Certificate(chain)
  const [notBefore, notAfter] = [leaf.validFromDate.getTime(), leaf.validToDate.getTime()]
  return {
    notBefore,
    notAfter,
    renewAt: Math.round(notBefore + ((notAfter - notBefore) * 2) / 3),
    serial: leaf.serialNumber,
    fingerprint256: leaf.fingerprint256,
    issuer: leaf.issuer.replaceAll('\n', ', '),
  }
}

/**
 * Refuses `invalid` a chain and key that are not PEM, do not belong together, are not for every name or are not valid
 * now. What is wrong is told, never the key.
 */
export function checkGiven(spec: Certificate['spec'], now: number): void {
  const refuse = (field: string, message: string, cause?: unknown): never => {
    throw new CloudError('invalid', message, { field: `spec.${field}` }, cause)
  }
  const read = <T>(field: string, what: string, work: () => T): T => {
    try {
      return work()
    } catch (error) {
      return refuse(field, `is no ${what} in PEM`, error)
    }
  }
  const { chain = '', key = '' } = spec
  const leaf = read('chain', 'certificate', () => new X509Certificate(chain))
  const own = read('key', 'unencrypted private key', () => createPrivateKey(key))
  if (!leaf.checkPrivateKey(own)) refuse('key', 'is not the key of the certificate')
  const missing = spec.names.find((name) => leaf.checkHost(name.replace(/^\*\./, 'any.')) === undefined)
  if (missing !== undefined) refuse('names', `the certificate is not for ${missing}`)
  if (leaf.validToDate.getTime() <= now) refuse('chain', 'the certificate has expired')
}

const isIssued = (status: Status): status is Issued => status.chain !== undefined && status.key !== undefined

export type CertificateTools = {
  readonly handover: Handover
  readonly issuers: Issuers
  readonly records: TxtRecords
}

/** Looks again at once at every certificate that failed: what they are made with was changed. */
export async function retryCertificates(draft: Draft): Promise<void> {
  for (const it of await draft.list(certificate, { tenant: ALL, terms: ['state:error'], deleted: false }))
    draft.wake(`certificate/${it.id}`)
}

/** Keeps a certificate issued, renewed and at the front door. A renewal that fails leaves the one in force. */
export function reconcileCertificate({
  handover,
  issuers,
  records,
}: CertificateTools): Reconcile<Certificate> {
  const serve = async (it: Certificate, look: Look, challenges: FrontCertificate['challenges'] = []) => {
    const key = look.draft.open(it, 'status.key')
    const { chain, names } = it.status
    const issued = chain && key && names ? { issued: { names, chain, key } } : {}
    await handover.put({ id: it.id, tenant: it.tenant, ...issued, challenges }, look.signal)
  }

  return async (it, look) => {
    const { draft, signal } = look
    if (it.deletedAt !== undefined) {
      await handover.remove(it.id, signal)
      return gone
    }
    const { status, spec } = it
    const isOfSpec =
      isDeepStrictEqual(status.names, spec.names) && (spec.source !== 'given' || status.chain === spec.chain)
    if (isIssued(status) && isOfSpec && (spec.source === 'given' || draft.now < status.renewAt))
      return await inForce(it, status, look)
    if (spec.source === 'given') {
      const key = draft.open(it, 'key') ?? ''
      const chain = spec.chain ?? ''
      return again(0, HANDING_OVER, {
        ...onTheWay(status, draft.now),
        names: spec.names,
        chain,
        key,
        ...readChain(chain),
      })
    }
    // A renewal that failed waits its turn, with the old one in force.
    if (status.nextTryAt !== undefined && isAhead(status.nextTryAt, pauseOf(status), draft.now) && isOfSpec) {
      await serve(it, look)
      return again(status.nextTryAt - draft.now, status.message ?? 'waits for the next try', status)
    }
    return await issue(it, look)
  }

  async function inForce(it: Certificate, status: Issued, look: Look): Promise<Outcome<Status>> {
    await serve(it, look)
    const { message: _message, nextTryAt: _next, triedAt: _tried, ...rest } = status
    const { now } = look.draft
    if (now >= status.notAfter)
      return settled(
        { ...rest, state: 'error', message: 'it has expired: give a new one' },
        LOOK_AGAIN_MS_MAX,
      )
    const next = it.spec.source === 'given' ? status.notAfter : status.renewAt
    return settled({ ...rest, state: 'issued' }, Math.min(next - now, LOOK_AGAIN_MS_MAX))
  }

  async function issue(it: Certificate, look: Look): Promise<Outcome<Status>> {
    const { draft, signal } = look
    const { source, names } = it.spec
    if (source === 'given') throw new Error('a given certificate is not issued')
    try {
      const { chain, key } =
        source === 'internal' ? await issuers.internal.issue(names, signal) : await order(it, look)
      const event = it.status.chain === undefined ? 'certificate.issued' : 'certificate.renewed'
      draft.record({ stream: 'event', tenant: it.tenant, subject: it.id, what: event, body: { names } })
      return again(0, HANDING_OVER, {
        ...onTheWay(it.status, draft.now),
        names,
        chain,
        key,
        ...readChain(chain),
      })
    } catch (error) {
      if (signal.aborted) throw error
      if (!isCloudError(error)) look.log.warn('certificate not issued', { error })
      return failed(it, look, messageOf(error))
    }
  }

  async function order(it: Certificate, look: Look): Promise<IssuedCertificate> {
    const { draft, signal } = look
    const [authority] = await draft.list(acme, { tenant: PLATFORM, deleted: false })
    const key = authority && draft.open(authority, 'status.key')
    if (!authority || !key)
      throw new CloudError(
        'unavailable',
        authority
          ? `the account of ACME authority ${authority.name} is not there yet: ${(await look.why(authority)) ?? 'it is being made'}`
          : 'no ACME authority is set up; an administrator adds one of the kind acme',
      )
    const { directory, challenge, trust } = authority.spec
    const account = {
      directory,
      key,
      account: authority.status.account ?? '',
      ...(trust === undefined ? {} : { trust }),
    }
    return await issuers.acme.issue(account, { names: it.spec.names, challenge }, publisher(it, look), signal)
  }

  /** Puts answers at the front door or into DNS, and takes away what it put before. */
  function publisher(it: Certificate, look: Look): Publish {
    let put: readonly Challenge[] = []
    return async (challenges) => {
      const before = put
      put = challenges
      if ([...before, ...challenges].some((one) => one.type === 'http-01'))
        await serve(
          it,
          look,
          challenges.flatMap((one) =>
            one.type === 'http-01' ? [{ hostname: one.hostname, token: one.token, answer: one.answer }] : [],
          ),
        )
      const inDns = (all: readonly Challenge[]) => all.filter((one) => one.type === 'dns-01')
      const [left, wanted] = [inDns(before), inDns(challenges)]
      if (left.length + wanted.length === 0) return
      const access = await accessOf(look)
      for (const one of left) await records.remove(access, one.record, one.value, look.signal)
      // Together, since each may take a while to be seen; none is under way any more when they are taken away.
      const done = await Promise.allSettled(
        wanted.map((one) => records.put(access, one.record, one.value, look.signal)),
      )
      const failed = done.find((one) => one.status === 'rejected')
      if (failed) throw failed.reason as Error
    }
  }

  function failed(it: Certificate, { draft }: Look, why: string): Outcome<Status> {
    const { status } = it
    // Each failure doubles the pause.
    const pause = Math.min(Math.max(RETRY_MS_MIN, pauseOf(status) * 2), RETRY_MS_MAX)
    const nextTryAt = draft.now + pause
    const valid = isIssued(status) && draft.now < status.notAfter
    const when = pause < MINUTE_MS ? `${Math.round(pause / 1000)} s` : `${Math.round(pause / MINUTE_MS)} min`
    const message = `${valid ? 'not renewed' : 'not issued'}: ${why}; tried again in ${when}`
    draft.record({
      stream: 'event',
      tenant: it.tenant,
      subject: it.id,
      what: 'certificate.failed',
      body: { message },
    })
    return again(pause, message, {
      ...status,
      state: valid ? 'issued' : 'error',
      message,
      nextTryAt,
      triedAt: draft.now,
    })
  }
}

/** How long the next try is waited for; it can be read off the times kept. */
const pauseOf = ({ nextTryAt = 0, triedAt = nextTryAt }: Status): number => nextTryAt - triedAt

async function accessOf({ draft }: Look): Promise<DnsAccess> {
  const [config] = await draft.list(provider, { tenant: PLATFORM, deleted: false })
  const token = config && draft.open(config, 'cloudflareToken')
  if (!token)
    throw new CloudError(
      'unavailable',
      'dns-01 needs the Cloudflare token of the provider configuration; an administrator sets it',
    )
  return { token }
}

/** Until the edge has it: one that is still in force there goes on. */
const onTheWay = (before: Status, now: number): Status => ({
  state: isIssued(before) && before.state === 'issued' && now < before.notAfter ? 'issued' : 'pending',
})
