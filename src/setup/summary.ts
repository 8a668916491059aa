import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { CloudError, messageOf } from '#lib/errors.ts'
import { cloudData, type Layout } from './layout.ts'
import { DEFAULT_LISTEN } from './options.ts'

/** The first administrator, as the cloud made it. */
export type Admin = { readonly username: string; readonly password: string; readonly token: string }

export const adminFile = (it: Layout): string => join(cloudData(it), 'admin.json')

/** Reads the credentials that the cloud keeps; refused `unavailable` when it has not made them. */
export function readAdmin(layout: Layout): Admin {
  const path = adminFile(layout)
  try {
    const { username, password, token } = JSON.parse(readFileSync(path, 'utf8')) as Admin
    return { username, password, token }
  } catch (error) {
    throw new CloudError(
      'unavailable',
      `the administrator's credentials in ${path} cannot be read: ${messageOf(error)}`,
    )
  }
}

/** What a person needs to begin. */
export function summary(it: {
  readonly url: string
  readonly layout: Layout
  readonly admin: Admin
  readonly warnings: readonly string[]
  /** How the command was called, for the lines to try next. */
  readonly command: string
}): string {
  const there = it.url === `http://${DEFAULT_LISTEN}` ? '' : ` --url ${it.url}`
  return [
    '',
    `Arcus runs at ${it.url}`,
    '',
    `  user      ${it.admin.username}`,
    `  password  ${it.admin.password}`,
    `  token     ${it.admin.token}`,
    `  (kept in ${adminFile(it.layout)})`,
    '',
    ...it.warnings.map((warning) => `Missing: ${warning}.`),
    ...(it.warnings.length > 0 ? [''] : []),
    'Next:',
    `  ${it.command} tenants create acme${there}   # a tenant, and its token`,
    `  ${it.command} --help`,
    'README.md has a tour of five minutes.',
    '',
  ].join('\n')
}
