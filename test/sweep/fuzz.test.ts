import { fuzzOperations, fuzzServer } from './fuzz.ts'

fuzzServer()
fuzzOperations((dialect) => dialect !== 'thecloud')
