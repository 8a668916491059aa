import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { AnswerFault, AnswerReader } from './answers.ts'

const HEAD_MAX = 500

/** What is heard of the bytes when they come in these pieces, and then the connection ends. */
function heard(method: string, pieces: readonly Buffer[]) {
  const reader = new AnswerReader(HEAD_MAX)
  const seen = { status: 0, message: '', headers: [] as readonly string[], body: '', isWhole: false }
  const kept = { isKept: false, keptMs: undefined as number | undefined }
  reader.expect(method, {
    begin: (status, message, headers) => void Object.assign(seen, { status, message, headers }),
    data: (chunk) => void (seen.body += chunk.toString('latin1')),
    end: () => (seen.isWhole = true),
  })
  for (const it of pieces) reader.read(it)
  if (seen.isWhole) Object.assign(kept, { isKept: reader.isKept, keptMs: reader.keptMs })
  else reader.close()
  return { ...seen, ...kept }
}
const of = (text: string, method = 'GET') => heard(method, [Buffer.from(text, 'latin1')])
const answer = (headers: string, body: string, status = '200 OK'): string =>
  `HTTP/1.1 ${status}\r\n${headers}\r\n${body}`

const chunked = (chunks: readonly string[], extension: string, trailer: string): string =>
  `${chunks.map((it) => `${it.length.toString(16)}${extension}\r\n${it}\r\n`).join('')}0\r\n${trailer}\r\n`

test('an answer is the same in whatever pieces it comes', () => {
  const text = fc.string({ unit: fc.constantFrom('\r', '\n', '0', 'a', ' ', '\xff'), maxLength: 40 })
  const framed = fc.oneof(
    text.map((body) => ({ body, sent: answer(`Content-Length: ${body.length}\r\n`, body), isKept: true })),
    text.map((body) => ({ body, sent: answer('', body), isKept: false })),
    fc
      .tuple(
        fc.array(text.filter(Boolean), { maxLength: 4 }),
        fc.constantFrom('', ';x=y', ' '),
        fc.constantFrom('', 'A: b\r\n'),
      )
      .map(([chunks, extension, trailer]) => ({
        body: chunks.join(''),
        sent: answer('Transfer-Encoding: chunked\r\n', chunked(chunks, extension, trailer)),
        isKept: true,
      })),
  )
  const before = fc.constantFrom('', 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n')
  fc.assert(
    fc.property(
      framed,
      before,
      fc.array(fc.nat(300), { maxLength: 12 }),
      ({ body, sent, isKept }, early, cuts) => {
        const bytes = Buffer.from(early + sent, 'latin1')
        const at = [...cuts.filter((it) => it < bytes.length).sort((a, b) => a - b), bytes.length]
        const pieces = at.map((end, it) => bytes.subarray(it ? at[it - 1] : 0, end))
        const it = heard('GET', pieces)
        assert.deepEqual([it.status, it.message, it.body, it.isWhole], [200, 'OK', body, true])
        assert.equal(it.isKept, isKept)
      },
    ),
  )
})

test('headers come as they are, without the blanks around them', () => {
  const { headers } = of(
    answer('A:b\r\nSet-Cookie: \t x = y \r\nset-cookie: \xa0z\r\nEmpty:\r\nContent-Length: 0\r\n', ''),
  )
  const rest = ['Empty', '', 'Content-Length', '0']
  assert.deepEqual(headers, ['A', 'b', 'Set-Cookie', 'x = y', 'set-cookie', '\xa0z', ...rest])
})

test('where an answer ends, and whether its connection goes on', () => {
  const length = 'Content-Length: 3\r\n'
  const cases: [what: string, method: string, sent: string, body: string, isKept: boolean][] = [
    ['a length', 'GET', answer(length, 'abc'), 'abc', true],
    ['no reason', 'GET', answer(length, 'abc', '200'), 'abc', true],
    ['no body by its status', 'GET', answer(length, '', '304 Not Modified'), '', true],
    ['no body by its method', 'HEAD', answer(length, ''), '', false],
    [
      'a connection that is to be closed',
      'GET',
      answer(`${length}Connection: Close\r\n`, 'abc'),
      'abc',
      false,
    ],
    ['HTTP/1.0', 'GET', `HTTP/1.0 200 OK\r\n${length}\r\nabc`, 'abc', false],
    ['the end of the connection', 'GET', answer('', 'abc'), 'abc', false],
  ]
  for (const [what, method, sent, body, isKept] of cases) {
    const it = of(sent, method)
    assert.deepEqual([it.body, it.isWhole, it.isKept], [body, true, isKept], what)
  }
  assert.equal(of(answer(`${length}Keep-Alive: max=9, timeout=7\r\n`, 'abc')).keptMs, 7000)
  for (const [what, sent] of [
    ['a body', answer(length, 'ab')],
    ['chunks', answer('Transfer-Encoding: chunked\r\n', '3\r\nabc\r\n')],
    ['a head', 'HTTP/1.1 200 OK\r\nA'],
  ] as const)
    assert.equal(of(sent).isWhole, false, `${what} that breaks off`)
})

test('what is not certain is refused', () => {
  const chunks = (text: string): string => answer('Transfer-Encoding: chunked\r\n', text)
  const bad: Record<string, string> = {
    'no HTTP': 'SSH-2.0-x\r\n\r\n',
    'another version': 'HTTP/2.0 200 OK\r\n\r\n',
    'a status of two digits': 'HTTP/1.1 20 OK\r\n\r\n',
    'another protocol unasked': answer('', '', '101 Switching Protocols'),
    'two lengths': answer('Content-Length: 1\r\nContent-Length: 1\r\n', 'a'),
    'a list of lengths': answer('Content-Length: 1, 1\r\n', 'a'),
    'a signed length': answer('Content-Length: +1\r\n', 'a'),
    'a length and an encoding': answer('Content-Length: 1\r\nTransfer-Encoding: chunked\r\n', 'a'),
    'an encoding of HTTP/1.0': 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'an encoding in an encoding': answer('Transfer-Encoding: gzip, chunked\r\n', ''),
    'two encodings': answer('Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n', ''),
    'a header without a name': answer(': a\r\n', ''),
    'a blank before the colon': answer('A : a\r\n', ''),
    'a folded header': answer('A: a\r\n b\r\n', ''),
    'a line without a colon': answer('A\r\n', ''),
    'a control character': answer('A: \x01\r\n', ''),
    'a lone CR': answer('A: a\rB: b\r\n', ''),
    'a lone LF': answer('A: a\nB: b\r\n', ''),
    'lines that end in LF': 'HTTP/1.1 200 OK\nContent-Length: 0\n\n',
    'a head without an end': `HTTP/1.1 200 OK\r\nA: ${'a'.repeat(HEAD_MAX)}`,
    'a head that is too long': answer(`A: ${'a'.repeat(HEAD_MAX)}\r\n`, ''),
    'bytes after the end': answer('Content-Length: 1\r\n', 'ab'),
    'another answer': answer('Content-Length: 0\r\n', answer('', '')),
    'a chunk without a size': chunks('\r\n'),
    'a negative chunk': chunks('-1\r\n'),
    'a chunk in other digits': chunks('0x1\r\na\r\n0\r\n\r\n'),
    'a chunk beyond all sizes': chunks('fffffffffffff\r\n'),
    'a chunk that is longer than it says': chunks('1\r\nab\r\n'),
    'a chunk that ends in LF': chunks('1\na\n'),
    'an extension without an end': chunks(`1;${'a'.repeat(5000)}`),
    'a trailer without an end': chunks(`0\r\n${'A: a\r\n'.repeat(200)}`),
  }
  for (const [what, sent] of Object.entries(bad)) assert.throws(() => of(sent), AnswerFault, what)
})
