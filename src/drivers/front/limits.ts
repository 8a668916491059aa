/** Where everything of the front door ends. A test or a benchmark may take others. */
export type FrontLimits = { readonly [name in keyof typeof FRONT_LIMITS]: number }

export const FRONT_LIMITS = {
  /** Open to the edge at once, over both listeners; more are closed at once. */
  connectionsMax: 20_000,
  connectionsPerClientMax: 1000,
  /** From the connection to the end of the TLS handshake. */
  handshakeMsMax: 10_000,
  /** From a request's first byte to the end of its headers. */
  headersMsMax: 15_000,
  /** A kept connection without a request. */
  keepAliveMsMax: 75_000,
  /** Request line and headers; more is answered 431. */
  headerBytesMax: 16_384,
  headersMax: 100,
  /** Body of a request; more is answered 413. */
  bodyBytesMax: 1_073_741_824,
  /** A body that comes slower over `trickleMsMax`, while the origin would take more, ends its request with 408. */
  bodyBytesPerSecondMin: 128,
  trickleMsMax: 30_000,
  /** A client that reads nothing of an answer for so long is left. */
  stalledMsMax: 60_000,
  /** Streams of one HTTP/2 connection at once. */
  streamsMax: 100,
  /** Connections to one origin; requests beyond wait for one, for as long as for an answer. */
  originConnectionsMax: 512,
  /** An origin that took longer to connect to is avoided while others answer. */
  originSuspectMs: 400,
  originConnectMsMax: 5000,
  /** From the whole request to the answer's headers. */
  answerMsMax: 120_000,
  /** Between two pieces of an answer, or of a WebSocket. */
  idleMsMax: 900_000,
  /** A kept connection to an origin without a request: less than what servers keep by default. */
  originKeepAliveMsMax: 4000,
  /** How often one request is sent when its origins break off before they answer. */
  triesMax: 4,
  /** What no origin could be connected to for waits so long: one that starts may not listen yet. */
  originWaitMsMax: 5000,
  /** Until it begins with all of them again. */
  tryAgainMs: 150,
  /** An origin that failed is left out for so long, twice as long each time, up to the second. */
  pauseMsMin: 1000,
  pauseMsMax: 10_000,
  /** What a client whose request found no origin is told to wait. */
  retryAfterSeconds: 2,
  /** Between two pings of a tunnelled stream; one that says nothing for `idleMsMax` is ended. */
  pingMs: 20_000,
  /** One message of a tunnelled stream. */
  messageBytesMax: 1_048_576,
  /** What may wait in memory for one side of a tunnelled stream that reads slowly. */
  waitingBytesMax: 1_048_576,
  /** Between two looks at an origin of a load balancer, and how long one may take to be connected to. */
  checkEveryMs: 5000,
  checkMsMax: 2000,
  checksAtOnceMax: 64,
  sessionIdleMsMax: 60_000,
  /** A session whose origin left takes its last answers for so long. */
  sessionLingerMsMax: 2000,
  sessionsPerRouteMax: 1024,
  sessionsPerClientMax: 64,
  accessesMax: 20_000,
  /** Characters of a path or user agent that an access keeps. */
  accessCharsMax: 512,
  /** What is under way when the edge is told to stop has so long to end. */
  stopMsMax: 3000,
  /** Between two looks for what is too slow. */
  sweepMs: 1000,
  /** A connection without any byte is asked by TCP whether its other side is there. */
  probeMs: 60_000,
  /** Between two tries to listen. */
  bindAgainMs: 1000,
} as const
