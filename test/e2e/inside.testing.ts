/** One request that a program in a container makes of its own API. */
export type InsideCall = {
  readonly key: string
  readonly body?: unknown
  readonly query?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly upgrade?: true
}
export type InsideAnswer = { readonly key: string; readonly status: number; readonly body: unknown }

/**
 * A program for `node -e` in a container: makes the calls that its one argument lists, through the socket and with the token
 * that it finds there, and prints the answers. It speaks as the vendor's client does: bodies in chunks.
 */
export const INSIDE_PROGRAM = `
const http = require('node:http')
const fs = require('node:fs')
const ask = (call) => new Promise((resolve, reject) => {
  const [method, path] = call.key.split(' ')
  const request = http.request({
    socketPath: '/var/run/cycle/api/api.sock',
    method,
    path: path + (call.query ? '?' + call.query : ''),
    headers: {
      host: 'localhost',
      'x-cycle-token': process.env.CYCLE_API_TOKEN,
      ...(call.body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(call.upgrade ? {
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
      } : {}),
      ...call.headers,
    },
  })
  request.once('error', reject)
  request.once('upgrade', (response, socket) => {
    socket.destroy()
    resolve({ key: call.key, status: response.statusCode, body: null })
  })
  request.once('response', (response) => {
    let text = ''
    response.setEncoding('utf8').on('data', (part) => (text += part))
    response.once('end', () => resolve({ key: call.key, status: response.statusCode, body: JSON.parse(text) }))
  })
  if (call.body !== undefined) request.write(JSON.stringify(call.body))
  request.end()
})
const file = '/var/run/cycle/metadata/environment.json'
;(async () => {
  const answers = []
  for (const call of JSON.parse(process.argv[1])) answers.push(await ask(call))
  const metadata = JSON.parse(fs.readFileSync(file, 'utf8'))
  const { CYCLE_INSTANCE_ID: instance, CYCLE_INSTANCE_IPV6_IP: ipv6 } = process.env
  process.stdout.write(JSON.stringify({ answers, metadata, instance, ipv6 }))
})()
`
