import Type from 'typebox'
import type { App } from '#apis/app.ts'
import { said } from '#apis/app.ts'
import type { Inside } from '#cloud/cloud.ts'
import { instanceOf } from './doors.ts'
import { ErrorEnvelope } from './schema/error.ts'
import { InstanceTask } from './schema/task.ts'

export function taskRoutes(app: App, inside: Inside): void {
  app.post(
    '/v1/conductor/tasks',
    {
      schema: {
        tags: ['Instances'],
        operationId: 'createInstanceJob',
        summary: 'Start or stop an instance of the environment',
        description:
          "For the environment's scheduler and for containers with the role of an orchestrator. It is accepted, and done after the answer.",
        body: InstanceTask,
        response: {
          200: Type.Object({}, { additionalProperties: false, description: 'Accepted.' }),
          default: said(ErrorEnvelope, 'Refused; `error.code` says why.'),
        },
      },
    },
    async (request) => {
      const { action, contents } = request.body
      const task = { workload: contents.container_id, replica: contents.instance_id }
      const of = instanceOf(request)
      if (action === 'container.instance.stop') {
        await inside.stop(of, task)
        return {}
      }
      const run = contents.function
      const env = run?.runtime_variables.environment_variables
      await inside.start(of, task, run ? { token: run.token, ...(env ? { env } : {}) } : undefined)
      return {}
    },
  )
}
