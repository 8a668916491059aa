-- What is due is asked kind by kind, since each has a bound of its own: no look goes through the keys of a kind that is full.

DROP INDEX queue_at;
CREATE INDEX queue_kind ON queue (kind, at);
