import { monitorEventLoopDelay } from 'node:perf_hooks'

// Loaded before a program to say how late its event loop is: `reset` begins anew, `read` gives the 99th percentile.

const RESOLUTION_MS = 1
const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
histogram.enable()
process.on('message', (asked: { delay: 'reset' | 'read' }) => {
  // What is recorded is the time from one tick of the timer to the next: beyond its resolution it is delay.
  if (asked.delay === 'read') process.send?.({ p99Ms: histogram.percentile(99) / 1e6 - RESOLUTION_MS })
  else {
    histogram.reset()
    process.send?.({})
  }
})
process.channel?.unref()
