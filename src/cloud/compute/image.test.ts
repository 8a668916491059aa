import assert from 'node:assert/strict'
import { test } from 'node:test'
import { normalRegistry, registryOf } from './image.ts'

test('tells the registry an image comes from', () => {
  const cases: Record<string, string> = {
    nginx: 'docker.io',
    'nginx:latest': 'docker.io',
    'library/nginx': 'docker.io',
    'index.docker.io/library/nginx': 'docker.io',
    'localhost/app': 'localhost',
    'localhost:5000/app:1': 'localhost:5000',
    '127.0.0.1:5055/team/app@sha256:abc': '127.0.0.1:5055',
    'registry.example.com/app': 'registry.example.com',
  }
  for (const [image, registry] of Object.entries(cases)) assert.equal(registryOf(image), registry, image)
})

test('a credential names its registry as URL or host', () => {
  assert.equal(normalRegistry('https://index.docker.io/v1/'), 'docker.io')
  assert.equal(normalRegistry('https://Registry.Example.com'), 'registry.example.com')
  assert.equal(normalRegistry('127.0.0.1:5055'), '127.0.0.1:5055')
})
