/**
 * Node's HTTP, and the only way to it for a program that runs: an import of `node:http` reads each of its names, and some
 * of them load Node's client for the web (fetch, WebSocket, streams of the web) where they are read, 92 modules and some
 * 28 ms of processor time in a process that has loaded nothing else. Types come from `node:http` as usual.
 */
export const { Agent, createServer, request } = process.getBuiltinModule('node:http')
export type Agent = InstanceType<typeof Agent>
