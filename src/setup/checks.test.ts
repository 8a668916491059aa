import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkData, checkPort } from './checks.ts'
import { parseListen } from './options.ts'

test('a taken port is named, with who holds it and what to do', async () => {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const port = typeof address === 'object' && address ? address.port : 0
  try {
    await assert.rejects(checkPort(parseListen(`127.0.0.1:${port}`)), (error: Error) => {
      assert.match(error.message, new RegExp(`^127\\.0\\.0\\.1:${port} is taken.*--listen HOST:PORT$`))
      return true
    })
  } finally {
    await new Promise((resolve) => server.close(resolve))
  }
  await checkPort(parseListen(`127.0.0.1:${port}`))
  await assert.rejects(checkPort(parseListen('192.0.2.1:80')), /this machine has no address 192\.0\.2\.1/)
})

test('a data folder below a file is refused before anything is made', () => {
  const folder = mkdtempSync(join(tmpdir(), 'arcus-checks-'))
  try {
    const file = join(folder, 'file')
    writeFileSync(file, '')
    assert.throws(() => checkData(join(file, 'a', 'b')), new RegExp(`${file} is not a folder`))
    assert.throws(() => checkData(file), /--data DIR/)
    checkData(join(folder, 'new', 'one'))
    checkData(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
