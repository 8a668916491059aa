import Type, { type Static } from 'typebox'
import { CreatorScope, Id, Identifier, Lifetime, nullable, stateOf } from './scalar.ts'

const IntegrationAuth = Type.Object({
  region: Type.Optional(nullable(Type.String())),
  namespace: Type.Optional(nullable(Type.String())),
  api_key: Type.Optional(nullable(Type.String())),
  key_id: Type.Optional(nullable(Type.String())),
  secret: Type.Optional(nullable(Type.String())),
  subscription_id: Type.Optional(nullable(Type.String())),
  client_id: Type.Optional(nullable(Type.String())),
  base64_config: Type.Optional(nullable(Type.String())),
})
const IntegrationState = stateOf(['new', 'verifying', 'live', 'deleting', 'deleted'])
const IntegrationAdvancedOptionBoolean = Type.Object({
  title: Type.String(),
  key: Type.String(),
  type: Type.Literal('bool'),
  default: Type.Optional(nullable(Type.Boolean())),
})
const IntegrationAdvancedOptionInt = Type.Object({
  title: Type.String(),
  key: Type.String(),
  type: Type.Literal('int'),
  default: Type.Optional(nullable(Type.Integer())),
})
const IntegrationAdvancedOptionString = Type.Object({
  title: Type.String(),
  key: Type.String(),
  type: Type.Literal('string'),
  default: Type.Optional(nullable(Type.String())),
})
const IntegrationDefinitionField = Type.Object({
  regex: Type.Optional(nullable(Type.String())),
  required: Type.Boolean(),
  name: Type.String(),
  description: Type.Optional(Type.String()),
  type: Type.Optional(Type.Enum(['select', 'string', 'int', 'blob'])),
  options: Type.Optional(nullable(Type.Array(Type.String()))),
})
const IntegrationDefinition = Type.Object({
  vendor: Type.String(),
  name: Type.String(),
  supports_verification: Type.Boolean(),
  supports_multiple: Type.Boolean(),
  features: Type.Optional(nullable(Type.Array(Type.String()))),
  extends: Type.Optional(nullable(Type.Array(Type.String()))),
  extended_configuration: Type.Optional(
    nullable(
      Type.Object({
        options: Type.Optional(
          nullable(
            Type.Array(
              Type.Union([
                IntegrationAdvancedOptionBoolean,
                IntegrationAdvancedOptionInt,
                IntegrationAdvancedOptionString,
              ]),
            ),
          ),
        ),
      }),
    ),
  ),
  fields: Type.Optional(
    Type.Object({
      extra: Type.Optional(nullable(Type.Record(Type.String(), IntegrationDefinitionField))),
      auth: Type.Optional(nullable(Type.Record(Type.String(), IntegrationDefinitionField))),
    }),
  ),
  url: Type.String({ format: 'uri' }),
  public: Type.Boolean(),
  usable: Type.Boolean(),
  deprecated: Type.Optional(Type.Boolean()),
  editable: Type.Boolean(),
  required_fields: Type.Unknown(),
})
const IntegrationMeta = Type.Object({ definition: Type.Optional(IntegrationDefinition) })
export const Integration = Type.Object({
  id: Id,
  name: Type.String(),
  vendor: Type.String(),
  identifier: Identifier,
  auth: Type.Optional(nullable(IntegrationAuth)),
  extra: Type.Optional(nullable(Type.Record(Type.String(), Type.String()))),
  creator: CreatorScope,
  hub_id: Id,
  state: IntegrationState,
  events: Lifetime,
  meta: Type.Optional(nullable(IntegrationMeta)),
})
export type Integration = Static<typeof Integration>
