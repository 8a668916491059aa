import fc from 'fast-check'
import { odd } from './arbitrary.ts'
import type { Operation } from './document.ts'

type Headers = readonly (readonly [string, string])[]

const TYPES = [
  'application/json',
  'application/JSON; charset=utf-16',
  'application/merge-patch+json',
  'application/json;',
  'application/xml',
  'text/plain',
  'multipart/form-data; boundary=x',
  'application/x-www-form-urlencoded',
  'application/',
  '/',
  'x'.repeat(300),
]

const MORE: readonly (readonly [string, string])[] = [
  ['content-encoding', 'gzip'],
  ['expect', '100-continue'],
  ['accept', 'application/xml;q=0.9, */*;q=0'],
  ['accept-encoding', 'gzip;q=x, br'],
  ['x-request-id', '../../etc/passwd'],
  ['x-request-id', 'a'.repeat(300)],
  ['if-match', '"1", W/"x"'],
  ['if-match', '999999999999999999999'],
  ['if-none-match', '*'],
  ['last-event-id', '-1'],
  ['last-event-id', '9'.repeat(400)],
  ['range', 'bytes=0-'],
  ['cookie', '__proto__=1; a'],
  ['forwarded', 'for=10.0.0.1;host=a'],
  ['x-forwarded-for', '10.0.0.1, unknown, '],
  ['x-http-method-override', 'DELETE'],
  ['origin', 'null'],
  ['x-big', 'b'.repeat(4000)],
  ['x-latin', 'caf\u00e9'],
  ['__proto__', 'x'],
  ['constructor', 'x'],
]

/** A header too many, one twice, or a content type that the body has not. */
export const headers = (): fc.Arbitrary<(given: Headers) => Headers> =>
  fc.oneof(
    { weight: 5, arbitrary: fc.constant((given: Headers) => given) },
    fc.constantFrom(...TYPES).map((type) => (given: Headers): Headers => [
      ...given.filter(([name]) => name !== 'content-type'),
      ['content-type', type],
    ]),
    fc.constant((given: Headers) => given.filter(([name]) => name !== 'content-type')),
    fc.constantFrom(...MORE).map((more) => (given: Headers): Headers => [...given, more]),
    fc.constantFrom(...MORE).map((more) => (given: Headers): Headers => [...given, more, more]),
    fc.nat(3).map((at) => (given: Headers): Headers => {
      const twice = given[at % Math.max(1, given.length)]
      return twice ? [...given, twice] : given
    }),
  )

const UTF8_BROKEN = Buffer.from([0x7b, 0x22, 0x61, 0x22, 0x3a, 0x22, 0xc3, 0x28, 0x22, 0x7d])
const MEBIBYTE = 1_048_576

const FORMS: readonly ((json: string) => string | Buffer)[] = [
  (json) => json.slice(0, -1),
  (json) => `\ufeff${json}`,
  (json) => `${json}${json}`,
  (json) => `${json.slice(0, -1)},}`,
  (json) => json.replace('{', '{"name":"first",'),
  (json) => json.replace('{', '{"__proto__":{"admin":true},'),
  (json) => json.replace('{', '{"__proto__":null,'),
  (json) => json.replace('{', '{"constructor":{"prototype":{"x":1}},'),
  (json) => json.replace(/:\s*(\d+|true|false)/, ':1e400'),
  (json) => json.replace(/:\s*("[^"]*"|\d+)/, ':123456789012345678901234567890'),
  (json) => json.replaceAll('"', "'"),
  (json) => `/* */${json}`,
  (json) => json.replace('"', '"\\ud800'),
  (json) => `[${json}]`,
  () => '',
  () => 'null',
  () => '"text"',
  () => '7',
  () => 'NaN',
  () => '['.repeat(50_000),
  () => `${'['.repeat(5000)}${']'.repeat(5000)}`,
  () => `${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`,
  () => UTF8_BROKEN,
  () => Buffer.alloc(64, 0),
  (json) => Buffer.from(json, 'utf16le'),
  (json) => `{"more":"${'x'.repeat(MEBIBYTE)}",${json.slice(1)}`,
]

/** What becomes of a body on its way: mostly nothing. */
export const bodyText = (): fc.Arbitrary<(json: string) => string | Buffer> =>
  fc.oneof(
    { weight: 4, arbitrary: fc.constant((json: string) => json) },
    { weight: 1, arbitrary: fc.constantFrom(...FORMS) },
  )

// Several of them stay below what a server takes of headers: that limit is tried by itself.
const SEGMENT_LENGTH_MAX = 300

const escaped = (value: unknown): string =>
  encodeURIComponent(
    (typeof value === 'string' ? value : (JSON.stringify(value) ?? ''))
      .toWellFormed()
      .slice(0, SEGMENT_LENGTH_MAX),
  )

const RAW_PIECES = [
  '%',
  '%zz',
  '%00',
  '%ff',
  '..',
  '.',
  '*',
  ':id',
  '%2f',
  '%2e%2e%2f',
  '',
  ';a=b',
  '~',
  '\\',
  '|',
]

/** One segment of a path, as it is sent. */
export const piece = (): fc.Arbitrary<string> =>
  fc.oneof(fc.constantFrom(...RAW_PIECES), odd().map(escaped), fc.string({ maxLength: 8 }).map(escaped))

/** A query of parameters that the operation has and has not, good and bad. */
export const query = (operation: Operation): fc.Arbitrary<string> => {
  const names = operation.parameters.filter((it) => it.in === 'query').map((it) => it.name)
  const name = fc.constantFrom(...names, ...names, '__proto__', 'constructor', 'a[b]', 'more', '')
  const value = fc.oneof(
    odd().map(escaped),
    fc.constantFrom(
      'true',
      'false',
      '1',
      '1000',
      '-1',
      'text',
      '%zz',
      '%00',
      '2026-01-01T00:00:00Z',
      'a=b',
      '',
    ),
  )
  return fc
    .array(fc.oneof({ weight: 6, arbitrary: fc.tuple(name, value).map(([n, v]) => `${n}=${v}`) }, name), {
      maxLength: 3,
    })
    .map((all) => all.join('&'))
}
