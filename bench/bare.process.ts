import { DatabaseSync } from 'node:sqlite'
import Fastify from 'fastify'
import Type from 'typebox'
import { validatorCompiler } from '#apis/validation.ts'
import type { BareRoute } from './bare.ts'

const given = JSON.parse(process.argv[2] ?? '{}') as {
  routes: BareRoute[]
  database?: string
  socketPath?: string
}

function openInsert(path: string): (body: string) => void {
  const db = new DatabaseSync(path)
  db.exec(
    'PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE made (n INTEGER PRIMARY KEY, body TEXT)',
  )
  const insert = db.prepare('INSERT INTO made (body) VALUES (?)')
  return (body) => void insert.run(body)
}

const app = Fastify({ logger: false })
app.setValidatorCompiler(validatorCompiler)
app.setSerializerCompiler(() => (data) => JSON.stringify(data))
const insert = given.database === undefined ? undefined : openInsert(given.database)
const params = Type.Object({ id: Type.Optional(Type.String({ minLength: 1, maxLength: 256 })) })
const body = Type.Object({}, { additionalProperties: true })
for (const { method, path, status, answer } of given.routes) {
  const schema = method === 'POST' ? { params, body } : { params }
  app.route({
    method,
    url: path,
    schema,
    handler: async (request, reply) => {
      if (method === 'POST') insert?.(JSON.stringify(request.body))
      return reply.code(status).send(answer)
    },
  })
}
const { socketPath } = given
const url = await app.listen(socketPath === undefined ? { host: '127.0.0.1', port: 0 } : { path: socketPath })
process.on('SIGTERM', () => process.exit(0))
console.log(JSON.stringify({ ready: true, url }))
