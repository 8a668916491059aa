import Type from 'typebox'
import { DateTime, Duration, HybridIdentifier, nullable } from './scalar.ts'

const HaProxyConfigSet = Type.Object({
  frontend: Type.Object({
    mode: Type.Enum(['tcp', 'http']),
    max_connections: nullable(Type.Integer()),
    timeouts: nullable(
      Type.Object({
        client_secs: nullable(Type.Integer()),
        client_fin_ms: nullable(Type.Integer()),
        http_keep_alive_ms: nullable(Type.Integer()),
        http_request_ms: nullable(Type.Integer()),
      }),
    ),
  }),
  backend: Type.Object({
    balance: Type.Enum(['roundrobin', 'static-rr', 'leastconn', 'first', 'source']),
    timeouts: nullable(
      Type.Object({
        server_secs: nullable(Type.Integer()),
        server_fin_ms: nullable(Type.Integer()),
        connect_ms: nullable(Type.Integer()),
        queue_ms: nullable(Type.Integer()),
        tunnel_secs: nullable(Type.Integer()),
      }),
    ),
  }),
})
const HaProxyConfig = Type.Object({
  default: HaProxyConfigSet,
  ports: Type.Record(Type.String(), HaProxyConfigSet),
})
const HaProxyLbType = Type.Object({
  performance: Type.Boolean(),
  ipv4: Type.Boolean(),
  ipv6: Type.Boolean(),
  type: Type.Literal('haproxy'),
  details: nullable(HaProxyConfig),
})
const WafConfig = Type.Object({
  rules: Type.Array(
    Type.Object({
      description: Type.String(),
      skip: Type.Boolean(),
      type: Type.Enum(['allow', 'deny', 'block']),
      expires: Type.Optional(nullable(DateTime)),
      match: Type.Enum(['any', 'all', '']),
      sample: Type.Optional(nullable(Type.Integer())),
      response: Type.Optional(nullable(Type.Object({ http_code: Type.Optional(Type.Integer()) }))),
      conditions: Type.Array(
        Type.Object({
          key: Type.Optional(nullable(Type.String())),
          value: Type.String(),
          regex: Type.Optional(Type.Boolean()),
          type: Type.Enum([
            'ip-match',
            'geo-match',
            'http-url-match',
            'http-method-match',
            'http-header-match',
            'http-body-match',
          ]),
          operator: Type.Enum(['==', '!=', '*=', '!*=', '^=', '!^=', '>', '<', '>=', '<=']),
        }),
      ),
    }),
  ),
})
const TcpTransportConfig = Type.Object({
  type: Type.Literal('tcp'),
  details: Type.Object({
    connections: Type.Record(Type.String(), Type.Unknown()),
    telemetry: Type.Record(Type.String(), Type.Unknown()),
  }),
})
const HttpTransportConfig = Type.Object({
  type: Type.Literal('http'),
  details: Type.Object({
    connections: Type.Object({ max_idle_conns_per_connection: nullable(Type.Integer()) }),
    telemetry: Type.Object({
      max_trackable_urls: Type.Optional(nullable(Type.Integer())),
      track_invalid_requests: Type.Optional(nullable(Type.Boolean())),
      ignore_paths: Type.Optional(nullable(Type.Array(Type.String()))),
    }),
  }),
})
const UdpTransportConfig = Type.Object({
  type: Type.Literal('udp'),
  details: Type.Object({ telemetry: Type.Record(Type.String(), Type.Unknown()) }),
})
const TcpRouterConfig = Type.Object({
  type: Type.Literal('tcp'),
  details: Type.Record(Type.String(), Type.Unknown()),
})
const UdpRouterConfig = Type.Object({
  type: Type.Literal('udp'),
  details: Type.Record(Type.String(), Type.Unknown()),
})
const ContentMod = Type.Object({
  replace: Type.Optional(nullable(Type.Array(Type.Object({ match: Type.String(), value: Type.String() })))),
})
const HttpRouterConfig = Type.Object({
  type: Type.Literal('http'),
  details: Type.Object({
    redirect: Type.Optional(
      nullable(
        Type.Object({
          auto_https_redirect: Type.Boolean(),
          remove_www: Type.Boolean(),
          port: Type.Optional(nullable(Type.Integer())),
          scheme: Type.Optional(nullable(Type.String())),
          url: Type.Optional(nullable(Type.String())),
        }),
      ),
    ),
    forward: Type.Optional(
      nullable(
        Type.Object({
          scheme: Type.Optional(nullable(Type.String())),
          content_mod: Type.Optional(nullable(ContentMod)),
          url: Type.Optional(nullable(Type.String())),
        }),
      ),
    ),
    proxy: Type.Optional(
      nullable(
        Type.Object({
          domain: Type.Optional(nullable(Type.String())),
          url: Type.Optional(nullable(Type.String())),
          content_mod: Type.Optional(nullable(ContentMod)),
        }),
      ),
    ),
    caching: Type.Optional(
      nullable(
        Type.Object({
          files: Type.Optional(nullable(Type.Array(Type.Object({ match: Type.String(), ttl: Duration })))),
        }),
      ),
    ),
  }),
})
const V1LbConfigRouter = Type.Object({
  match: Type.Object({
    domains: nullable(Type.Array(Type.String())),
    internal_ports: nullable(Type.Array(Type.Integer())),
    path: Type.Optional(nullable(Type.String())),
    containers: Type.Optional(
      nullable(
        Type.Object({
          include: Type.Optional(nullable(Type.Array(HybridIdentifier))),
          exclude: Type.Optional(nullable(Type.Array(HybridIdentifier))),
        }),
      ),
    ),
  }),
  mode: Type.Enum(['random', 'round-robin', 'source-ip']),
  config: Type.Object({
    sticky_sessions: Type.Boolean(),
    destination_retries: Type.Integer(),
    destination_prioritization: Type.Optional(nullable(Type.Enum(['latency', 'random', 'fixed']))),
    tls: Type.Optional(
      nullable(
        Type.Object({
          server_name: Type.Optional(nullable(Type.String())),
          allow_insecure: Type.Optional(nullable(Type.Boolean())),
          client_cert_auth: Type.Optional(nullable(Type.String())),
          client_auth: Type.Optional(nullable(Type.Enum(['none', 'request', 'require', 'require-verify']))),
        }),
      ),
    ),
    timeouts: Type.Object({ destination_connection: Duration }),
    extension: Type.Optional(nullable(Type.Union([TcpRouterConfig, HttpRouterConfig, UdpRouterConfig]))),
  }),
})
const V1LbController = Type.Object({
  identifier: Type.String(),
  port: Type.Integer(),
  waf: Type.Optional(nullable(WafConfig)),
  transport: Type.Optional(
    nullable(
      Type.Object({
        disable: Type.Boolean(),
        mode: Type.Enum(['tcp', 'udp', 'http']),
        config: Type.Object({
          performance: Type.Boolean(),
          ingress: Type.Object({ tls: Type.Optional(nullable(Type.Object({ enable: Type.Boolean() }))) }),
          timeouts: Type.Object({ idle: Duration }),
          verbosity: Type.Enum(['low', 'normal', 'high', 'debug']),
          extension: Type.Optional(Type.Union([TcpTransportConfig, HttpTransportConfig, UdpTransportConfig])),
        }),
        routers: Type.Array(V1LbConfigRouter),
      }),
    ),
  ),
})
const V1LbConfig = Type.Object({
  controllers: Type.Array(V1LbController),
  controller_template: Type.Optional(nullable(V1LbController)),
  waf: Type.Optional(nullable(WafConfig)),
})
const V1LbType = Type.Object({
  performance: Type.Boolean(),
  ipv4: Type.Boolean(),
  ipv6: Type.Boolean(),
  type: Type.Literal('v1'),
  details: V1LbConfig,
})
const DefaultLbType = Type.Object({
  performance: Type.Boolean(),
  ipv4: Type.Boolean(),
  ipv6: Type.Boolean(),
  type: Type.Literal('default'),
  details: nullable(Type.Union([HaProxyConfig, V1LbConfig])),
})
export const LoadBalancerConfig = Type.Union([V1LbType, HaProxyLbType, DefaultLbType])
