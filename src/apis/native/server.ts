import type { Dialect } from '#apis/http.ts'
import { answerErrors } from '#apis/errors.ts'
import { accessRoutes } from './access.ts'
import { authenticateIn } from './caller.ts'
import { challenge, shape } from './errors.ts'
import { credentialRoute } from './credentials.ts'
import { edgeRoutes } from './edge.ts'
import { identityRoutes } from './identity.ts'
import { insideRoutes } from './inside.ts'
import { kindListRoute, kindRoutes } from './kinds.ts'
import { operationRoutes } from './operations.ts'
import { replicaRoutes } from './replicas.ts'
import { streamsOf } from '#apis/streams.ts'
import { tenantRoute } from './tenants.ts'
import { topologyRoute } from './topology.ts'
import { watchRoute } from './watch.ts'
import { actionRoutes } from './writes.ts'

/** The native API: every kind served alike, and what goes beyond kinds. The console and the CLI are its clients. */
export const native: Dialect = {
  name: 'native',
  title: 'Arcus native API',
  reference: {
    description:
      'Every kind of resource, served alike: list, get, create, merge-patch, delete, watch, dry run and explain. An administrator acts in a tenant with the header `Arcus-Tenant: <id or name>`. Writes take `?dryRun=true`: everything is checked, nothing is written.',
    tags: [],
    securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
    security: ['token'],
  },
  async register(app, cloud, mount) {
    answerErrors(app, mount, shape)
    app.addHook('onError', challenge)
    authenticateIn(app, cloud)
    const streams = streamsOf(app, mount.log)
    identityRoutes(app, cloud)
    kindListRoute(app, cloud)
    topologyRoute(app, cloud)
    watchRoute(app, cloud, streams)
    operationRoutes(app, cloud)
    tenantRoute(app, cloud)
    credentialRoute(app, cloud)
    for (const kind of cloud.kinds.values()) kindRoutes(app, cloud, kind, streams)
    accessRoutes(app, cloud)
    edgeRoutes(app, cloud)
    actionRoutes(app, cloud)
    insideRoutes(app, cloud)
    replicaRoutes(app, cloud, streams)
  },
}
