/** Sets an entry of a map as its newest, and drops the oldest when there are more than `max`, which is 1 at least. */
export function keepNewest<K, V>(map: Map<K, V>, key: K, value: V, max: number): void {
  // Behind the others, in the order in which they are dropped.
  map.delete(key)
  map.set(key, value)
  if (map.size <= max) return
  const [oldest = key] = map.keys()
  map.delete(oldest)
}
