// Asks a resolver for an address record, from inside the network namespace it is started in: ADDRESS CALLER NAME.
import { dataOf, query, read, sendUdp } from '#drivers/edge/dns.testing.ts'

const ANSWER_MS_MAX = 500
const [address = '', caller = '', name = ''] = process.argv.slice(2)
const seen = read(await sendUdp({ address, port: 53 }, caller, query(name), ANSWER_MS_MAX))
console.log(JSON.stringify({ rcode: seen.rcode, data: dataOf(seen) }))
