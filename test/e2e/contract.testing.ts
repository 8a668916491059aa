import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import ajvFormats from 'ajv-formats'

type Response = { $ref?: string; content?: Record<string, { schema?: unknown }> }
type Operation = { responses: Record<string, Response> }
type Document = {
  paths: Record<string, Record<string, Operation>>
  components: { responses: Record<string, Response> }
}

/** Checks one answer; throws an error that names the operation and each field that breaks the contract. */
export type CheckAnswer = (method: string, path: string, status: number, body: unknown) => void

const escaped = (part: string): string => part.replaceAll('~', '~0').replaceAll('/', '~1')

const OBJECT_ID = /^[0-9a-f]{24}$/i
/** Forms of text that contracts name and JSON Schema does not know. */
const FORMATS: Readonly<Record<string, (text: string) => boolean>> = {
  objectid: (text) => OBJECT_ID.test(text),
  'ip-address': (text) => isIP(text) !== 0,
  cidr: (text) => {
    const [address = '', prefix = '', ...more] = text.split('/')
    const bits = isIP(address) === 6 ? 128 : 32
    return isIP(address) !== 0 && /^\d{1,3}$/.test(prefix) && Number(prefix) <= bits && more.length === 0
  },
}

/** A validator of the dialect that OpenAPI 3.1 documents are written in. */
export function contractAjv(): Ajv2020 {
  const ajv = new Ajv2020({ strict: false, allErrors: true })
  ;(ajvFormats as unknown as (ajv: Ajv2020) => void)(ajv)
  for (const [name, validate] of Object.entries(FORMATS)) ajv.addFormat(name, validate)
  return ajv
}

/**
 * A checker of answers against an OpenAPI 3.1 document: the operation must be declared, its status too, and the body
 * must fit the declared schema (an empty one where none is). Unknown paths must answer with the document's
 * schema of errors, named `error`.
 */
export function contractOf(file: URL, error = 'Error'): CheckAnswer {
  const document = JSON.parse(readFileSync(file, 'utf8')) as Document
  const ajv = contractAjv()
  ajv.addSchema(document as object, 'contract')
  const compiled = new Map<string, ValidateFunction>()
  const templates = Object.keys(document.paths)
    .map((path) => ({ path, pattern: new RegExp(`^${path.replaceAll(/\{[^}]+\}/g, '[^/]+')}$`) }))
    .sort((a, b) => a.path.split('{').length - b.path.split('{').length)

  const validatorAt = (pointer: string): ValidateFunction => {
    const known = compiled.get(pointer)
    if (known) return known
    const made = ajv.compile({ $ref: `contract#${pointer}` })
    compiled.set(pointer, made)
    return made
  }
  const pointerOf = (at: string, response: Response): string | undefined => {
    if (response.$ref) {
      const name = response.$ref.replace('#/components/responses/', '')
      return pointerOf(`/components/responses/${name}`, document.components.responses[name] ?? {})
    }
    return response.content ? `${at}/content/application~1json/schema` : undefined
  }

  return (method, path, status, body) => {
    const at = `${method} ${path} answered ${status}`
    const template = templates.find((it) => it.pattern.test(path.split('?')[0] ?? ''))
    const operation = template && document.paths[template.path]?.[method.toLowerCase()]
    let pointer: string | undefined = `/components/schemas/${error}`
    if (template && operation) {
      const declared = operation.responses[String(status)] ? String(status) : 'default'
      const response = operation.responses[declared]
      if (!response) throw new Error(`${at}, which its contract does not list: ${JSON.stringify(body)}`)
      pointer = pointerOf(
        `/paths/${escaped(template.path)}/${method.toLowerCase()}/responses/${declared}`,
        response,
      )
    } else if (status < 400) throw new Error(`${at}, and no contract declares it`)
    if (!pointer) {
      if (body !== undefined)
        throw new Error(`${at} with a body where there should be none: ${JSON.stringify(body)}`)
      return
    }
    const validate = validatorAt(pointer)
    if (!validate(body)) {
      throw new Error(
        `${at}, not as its contract says: ${ajv.errorsText(validate.errors)}: ${JSON.stringify(body)}`,
      )
    }
  }
}
