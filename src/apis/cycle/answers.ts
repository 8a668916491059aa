import Type, { type TSchema } from 'typebox'
import { said } from '#apis/app.ts'
import { ErrorEnvelope } from './schema/error.ts'

/** What an operation may answer: this inside `data`, or the envelope of a refusal (contract section 1.3). */
export const answers = <S extends TSchema>(schema: S, description: string) => ({
  200: Type.Object({ data: schema }, { description }),
  default: said(ErrorEnvelope, 'Refused; `error.code` says why.'),
})

export const listOf = <S extends TSchema>(schema: S, description: string) =>
  answers(Type.Array(schema), description)
