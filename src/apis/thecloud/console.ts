import type { FastifyRequest } from 'fastify'
import Type from 'typebox'
import type { Streams, Whose } from '#apis/streams.ts'
import { carry, CLOSE, end } from '#apis/terminal.ts'
import { CloudError, isCloudError, messageOf } from '#lib/errors.ts'
import { refusalFor } from './errors.ts'
import { machineNamed, statusOf } from './instance.ts'
import { type Frame, operation } from './operation.ts'
import { IdOrName, toSecond } from './schema.ts'
import { createTickets } from './tickets.ts'

const TERMINAL = '/instances/:id/console/terminal'
const SHELL = ['/bin/sh']
const Size = Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 }))

/** What a console's address opens: a shell in a replica, as whoever asked for it. */
type Access = Whose & { readonly replica: string }

/** Where the request itself was sent, as a WebSocket. */
const addressOf = ({ protocol, host, originalUrl }: FastifyRequest): string =>
  `${protocol === 'https' ? 'wss' : 'ws'}://${host}${originalUrl.replace(/\?.*$/, '')}`

/** A terminal in an instance: its address, and what answers there. */
export function consoleRoutes(frame: Frame, streams: Streams): void {
  const { app, cloud, clock, doors } = frame
  const tickets = createTickets<Access>(clock)
  operation(frame, {
    tag: 'Instances',
    method: 'GET',
    path: '/instances/:id/console',
    id: 'getInstanceConsole',
    summary: 'The address of a terminal in it: a WebSocket, good once and for a minute',
    description:
      'Binary frames carry what is typed and shown, of `/bin/sh`. Text frames are JSON: from the client `{"resize":{"width":80,"height":24}}`, from the server `{"exitCode":0}` before it closes.',
    params: { id: IdOrName },
    answer: Type.Object({
      data: Type.String(),
      console_url: Type.String(),
      url: Type.String(),
      meta: Type.Object({ request_id: Type.String(), timestamp: Type.String() }),
    }),
    bare: true,
    refuses: [404],
    refusals: { 'conflict:wrong_state': { status: 400, type: 'INSTANCE_NOT_RUNNING' } },
    async run({ caller, params, request }) {
      const machine = await machineNamed(cloud, caller, params.id)
      const { slot } = machine
      if (!slot || statusOf(machine) !== 'RUNNING')
        throw new CloudError('conflict', 'The instance is not running', { rule: 'wrong_state' })
      const ticket = tickets.issue({ replica: slot.id, caller, again: doors.againOf(request) })
      const url = `${addressOf(request)}/terminal?ticket=${ticket}`
      const meta = { request_id: request.id, timestamp: toSecond(clock.now()) }
      return { data: url, console_url: url, url, meta }
    },
  })
  app.route({
    method: 'GET',
    url: TERMINAL,
    config: { tenancy: 'none' },
    schema: {
      hide: true,
      params: Type.Object({ id: IdOrName }),
      querystring: Type.Object({ ticket: Type.String({ maxLength: 128 }), width: Size, height: Size }),
    } as never,
    handler: () => {
      throw new CloudError('invalid', 'This is a WebSocket: ask with Upgrade: websocket')
    },
    wsHandler(socket, request) {
      const { ticket, width, height } = request.query as { ticket: string; width?: number; height?: number }
      const said = (error: unknown): unknown => {
        const known = isCloudError(error)
        const fault = known ? error : { code: 'internal' as const, details: {} }
        const { type } = refusalFor(fault)
        return {
          error: { type, message: known ? messageOf(error) : 'An unexpected error occurred', code: type },
        }
      }
      const refuse = (error: unknown): void => {
        if (!isCloudError(error)) streams.log.error('console failed', { requestId: request.id, error })
        end(socket, CLOSE.failed, said(error))
      }
      const access = tickets.redeem(ticket)
      if (!access)
        return refuse(
          new CloudError('unauthenticated', 'This address was used or is too old; ask for the console again'),
        )
      const needs = { right: 'write', action: 'instance:update' } as const
      const size = width === undefined || height === undefined ? {} : { width, height }
      try {
        const signal = streams.open(request, socket, access, needs)
        const { caller, replica } = access
        const open = async () =>
          await cloud.exec(caller, replica, { command: SHELL, tty: true, ...size }, signal)
        carry(socket, open, signal, said).catch(refuse)
      } catch (error) {
        refuse(error)
      }
    },
  })
}
