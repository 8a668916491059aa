const DEFAULT_REGISTRY = 'docker.io'
const DEFAULT_REGISTRY_NAMES = ['index.docker.io', 'registry-1.docker.io', 'docker.io']

/** The registry host (with port) an image reference names; `docker.io` for a bare name. */
export function registryOf(image: string): string {
  const slash = image.indexOf('/')
  const first = slash < 0 ? '' : image.slice(0, slash)
  const isHost = first === 'localhost' || first.includes('.') || first.includes(':')
  return normalRegistry(isHost ? first : DEFAULT_REGISTRY)
}

/** A registry as a credential names it, URL or host, as a plain host with port. */
export function normalRegistry(server: string): string {
  const host = server
    .replace(/^https?:\/\//i, '')
    .replace(/\/.*$/, '')
    .toLowerCase()
  return DEFAULT_REGISTRY_NAMES.includes(host) ? DEFAULT_REGISTRY : host
}
