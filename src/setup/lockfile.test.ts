import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

type Locked = Record<string, { readonly optionalDependencies?: Readonly<Record<string, string>> }>

test('the lock file names every optional package, also those of other platforms, without which `npm ci` refuses it', () => {
  const text = readFileSync(new URL('../../package-lock.json', import.meta.url), 'utf8')
  const { packages } = JSON.parse(text) as { packages: Locked }
  const missing = Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies).filter(
      (name) => !packages[`${path}/node_modules/${name}`] && !packages[`node_modules/${name}`],
    ),
  )
  assert.ok(Object.keys(packages).length > 1)
  assert.deepEqual(missing, [])
})
