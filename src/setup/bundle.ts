import { build, type Plugin } from 'esbuild'
import { createHash } from 'node:crypto'
import {
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { open } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { ENTRIES } from '#lib/entry.ts'
import { removeWhole, syncFolder, writeAtomically } from '#lib/files.ts'
import { run } from './command.ts'

/** What a bundle is made from. */
const SOURCES = ['.node-version', 'package.json', 'package-lock.json', 'src']
/** What the code reads beside itself, from where it is in a checkout to where it is in a bundle. */
const BESIDE = {
  '.node-version': '.node-version',
  'package.json': 'package.json',
  'src/engine/migrations': 'engine/migrations',
} as const
/** What dockerode loads at once for an engine behind SSH and for builds by BuildKit, neither of which we ask for. */
const NEVER_USED: Plugin = {
  name: 'never used',
  setup({ onResolve, onLoad }) {
    const filter = /^(ssh2|protobufjs|@grpc\/(grpc-js|proto-loader))$/
    onResolve({ filter }, ({ path }) => ({ path, namespace: 'never-used' }))
    onLoad({ filter, namespace: 'never-used' }, () => ({ contents: 'module.exports = {}' }))
  },
}
/** Of programs that run on from before: they load some parts when they first need them. */
const BUNDLES_KEPT = 3
const GIT_SECONDS_MAX = 10
const READABLE = 0o644

/** A short name for exactly this code and these dependencies; tests are no part of it. */
export function versionOf(checkout: string): string {
  const hash = createHash('sha256')
  const files = SOURCES.flatMap((part) => [part, ...globSync(`${part}/**`, { cwd: checkout })])
  for (const file of files.filter((it) => !/\.(test|testing|conformance)\.ts$/.test(it)).toSorted()) {
    const path = join(checkout, file)
    if (!statSync(path, { throwIfNoEntry: false })?.isFile()) continue
    hash.update(`${file}\0`)
    hash.update(readFileSync(path))
  }
  return hash.digest('hex').slice(0, 12)
}

/** The code of every entry; what several of them have in common, or load when they first need it, is in files of its own. */
async function writeCode(checkout: string, folder: string): Promise<void> {
  await build({
    absWorkingDir: checkout,
    entryPoints: ENTRIES.map((it) => `src/${it}.ts`),
    outbase: 'src',
    outdir: folder,
    chunkNames: 'parts/[name]-[hash]',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: `node${process.versions.node}`,
    plugins: [NEVER_USED],
    // Names stay; Node keeps the text that it runs in memory.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'none',
    sourcemap: 'linked',
    sourcesContent: false,
    // Libraries in CommonJS ask for Node's own modules by it.
    banner: {
      js: "import{createRequire as $require}from'node:module';const require=$require(import.meta.url);",
    },
    tsconfigRaw: {},
    logLevel: 'warning',
  })
}

/** Notes the commit that the sources are of, where that can be told. */
async function writeCommit(checkout: string, folder: string): Promise<void> {
  const asked = run(['git', '-C', checkout, 'rev-parse', 'HEAD'], GIT_SECONDS_MAX)
  const commit = await asked.catch(() => undefined)
  if (commit) writeFileSync(join(folder, '.commit'), commit, { mode: READABLE })
}

/** Makes durable what is in a folder, so that a name for it never stands for less than all of it. */
async function syncAll(folder: string): Promise<void> {
  for (const it of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (it.isDirectory()) await syncFolder(join(it.parentPath, it.name))
    if (!it.isFile()) continue
    await using file = await open(join(it.parentPath, it.name), 'r')
    await file.sync()
  }
  await syncFolder(folder)
}

/**
 * Makes the bundle of a checkout, unless there is one of exactly its sources: `bundle/VERSION`, whole or not at all, with
 * the Node that runs it as `node`. `bundle/version` names it from then on. Gives the folder.
 */
export async function makeBundle(checkout: string): Promise<string> {
  const version = versionOf(checkout)
  const all = join(checkout, 'bundle')
  const folder = join(all, version)
  if (!existsSync(folder)) {
    const next = `${folder}.next`
    rmSync(next, { recursive: true, force: true })
    mkdirSync(next, { recursive: true })
    await writeCode(checkout, next)
    for (const [from, to] of Object.entries(BESIDE))
      cpSync(join(checkout, from), join(next, to), { recursive: true })
    symlinkSync(relative(folder, process.execPath), join(next, 'node'))
    await writeCommit(checkout, next)
    await syncAll(next)
    renameSync(next, folder)
  }
  await writeAtomically(join(all, 'version'), `${version}\n`, READABLE)
  removeOld(all, version)
  return folder
}

function removeOld(all: string, version: string): void {
  const others = readdirSync(all, { withFileTypes: true })
    .filter((it) => it.isDirectory() && it.name !== version)
    .map(({ name }) => ({ name, madeAt: statSync(join(all, name)).mtimeMs }))
    .toSorted((one, other) => other.madeAt - one.madeAt)
  const old = others.filter(({ name }, at) => at >= BUNDLES_KEPT - 1 || name.endsWith('.next'))
  for (const { name } of old) removeWhole(join(all, name))
}
