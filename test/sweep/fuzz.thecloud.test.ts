import { fuzzOperations } from './fuzz.ts'

fuzzOperations((dialect) => dialect === 'thecloud')
