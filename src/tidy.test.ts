import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { findPackageJSON } from 'node:module'
import { test } from 'node:test'

// Which layer may import which (docs/style.md, rule 1). A type the table lacks may import nothing of ours.
const MAY_IMPORT: Record<string, RegExp> = {
  lib: /^$/,
  engine: /^#lib\//,
  cloud:
    /^#(lib|engine)\/|^#cloud\/(access|bound|context|found|given|states)\.ts$|^#cloud\/.+\.(kind|driver)\.ts$/,
  drivers: /^#lib\/|^#cloud\/.+\.(kind|driver)\.ts$/,
  apis: /^#lib\/|^#engine\/(engine|kind|resource|store)\.ts$|^#apis\/[\w-]+\.ts$|^#cloud\/(cloud|access|.+\.(kind|driver))\.ts$/,
  cli: /^#lib\//,
  supervise: /^#lib\//,
  doctor: /^#(lib|setup|supervise|drivers)\//,
  setup: /^#(lib|supervise)\//,
}
// The two files that put every capability together.
const ROOTS = /^src\/cloud\/(cloud|access|verbs)\.ts$/

for (const file of globSync('src/*/**/*.ts').filter((it) => !/\.(test|testing|conformance)\.ts$/.test(it))) {
  test(`${file} imports downwards`, () => {
    const [, layer = ''] = file.split('/')
    const text = readFileSync(file, 'utf8')
    for (const [, path = ''] of text.matchAll(/from '([#.][^']+)'/g)) {
      assert.doesNotMatch(path, /^\.\.\//, `${path}: use #layer/… beyond your folder`)
      if (path.startsWith('./') || (ROOTS.test(file) && /^#(lib|engine|cloud)\//.test(path))) continue
      assert.match(path, MAY_IMPORT[layer] ?? /^$/)
    }
    assert.doesNotMatch(text, /export \* from/)
    assert.doesNotMatch(text, /^import (?!type )[^']*from 'node:http'/m, 'take what runs from #lib/http.ts')
    if (layer !== 'lib') assert.doesNotMatch(text, /Date\.now|Math\.random|process\.env/)
  })
}

// A bundle gives a library in CommonJS that is imported late as its default alone, Node also by its names.
test('what is taken of a library that is imported late is its default, where that is not a module', () => {
  for (const file of globSync('src/**/*.ts').filter((it) => !/\.(test|testing|conformance)\.ts$/.test(it)))
    for (const [line, name = ''] of readFileSync(file, 'utf8').matchAll(
      /^.*\S.*import\('([\w@][^']*)'\).*$/gm,
    )) {
      if (line.trim() === `await import('${name}')` || /\bdefault\b/.test(line)) continue
      const at = findPackageJSON(import.meta.resolve(name)) ?? ''
      const { type } = JSON.parse(readFileSync(at, 'utf8')) as { type?: string }
      assert.equal(type, 'module', `${file}: ${line.trim()}`)
    }
})
