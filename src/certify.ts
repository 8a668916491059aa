import { ensureCertificate } from '#apis/tls.ts'
import { systemClock } from '#lib/clock.ts'
import { messageOf } from '#lib/errors.ts'

// What the cloud has make its certificate (apis/tls.ts): given the folder, and the names to serve.
const [folder = '', ...names] = process.argv.slice(2)
try {
  await ensureCertificate({ folder, names, clock: systemClock })
} catch (error) {
  console.error(messageOf(error))
  process.exitCode = 1
}
