import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Docker from 'dockerode'
import { pushTo, startRegistry } from '../fixtures/registry.ts'

export type PrivateRegistry = AsyncDisposable & {
  readonly server: string
  readonly username: string
  readonly password: string
  /** An image that only this registry has, so that it must be pulled. */
  readonly image: string
}

/** A registry that asks for a login, with one image under a name nobody else uses. */
export async function startPrivateRegistry(): Promise<PrivateRegistry> {
  const directory = mkdtempSync(join(tmpdir(), 'arcus-e2e-registry-'))
  const login = { username: 'puller', password: `secret-${randomUUID()}` }
  const docker = new Docker()
  const registry = await startRegistry({ directory, listen: '127.0.0.1:0', login })
  const name = `private-${randomUUID().slice(0, 8)}:1`
  const [repo = '', tag = ''] = name.split(':')
  await docker.getImage('idle:latest').tag({ repo, tag })
  const image = await pushTo(docker, name, registry.address, login)
  await docker.getImage(name).remove()
  return {
    server: registry.address,
    ...login,
    image,
    async [Symbol.asyncDispose]() {
      await registry.close()
      await docker
        .getImage(image)
        .remove({ force: true })
        .catch(() => undefined)
      rmSync(directory, { recursive: true, force: true })
    },
  }
}
