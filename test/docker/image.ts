import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

export const run = promisify(execFile)

/** Makes an image of nothing but a static busybox, 2 MB, in a second. `apt-get install busybox-static` has it. */
export async function importBusybox(reference: string): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), 'arcus-image-'))
  try {
    for (const folder of ['bin', 'etc', 'tmp', 'proc', 'sys', 'dev', 'root', 'var', 'run'])
      await mkdir(join(root, folder))
    await cp('/bin/busybox', join(root, 'bin/busybox'))
    const { stdout } = await run('/bin/busybox', ['--list'])
    for (const name of stdout.split('\n').filter((it) => it && it !== 'busybox')) {
      await symlink('busybox', join(root, 'bin', name))
    }
    await writeFile(
      join(root, 'etc/passwd'),
      'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n',
    )
    await writeFile(join(root, 'etc/group'), 'root:x:0:\nnobody:x:65534:\n')
    const tar = join(root, '..', `${reference.replace(/\W/g, '-')}.tar`)
    await run('tar', ['-C', root, '-cf', tar, '.'])
    await run('docker', ['import', '-c', 'CMD ["sleep","infinity"]', '-c', 'ENV PATH=/bin', tar, reference])
    await rm(tar)
  } finally {
    await rm(root, { recursive: true, force: true })
  }
}
