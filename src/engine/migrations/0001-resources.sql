-- Resources with what is decided about them in one transaction: references, list terms, claims, guards, the change feed,
-- durable records and the work queue. Times are milliseconds since 1970.

CREATE TABLE resource (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  owner TEXT,
  labels TEXT NOT NULL,
  spec TEXT NOT NULL,
  status TEXT NOT NULL,
  version INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  observed INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  deleted_at INTEGER,
  overdue TEXT,
  -- When it must have settled; NULL once it has.
  settle_by INTEGER,
  -- JSON lists: the terms it is a member under, and the keys to look at after its changes.
  terms TEXT NOT NULL,
  wakes TEXT NOT NULL
) STRICT;
CREATE INDEX resource_owner ON resource (owner, id) WHERE owner IS NOT NULL;
CREATE INDEX resource_late ON resource (settle_by) WHERE settle_by IS NOT NULL AND overdue IS NULL;

CREATE TABLE ref (
  id TEXT NOT NULL,
  target TEXT NOT NULL,
  on_delete TEXT NOT NULL,
  PRIMARY KEY (id, target)
) STRICT, WITHOUT ROWID;
CREATE INDEX ref_target ON ref (target, id);

-- One row for each list that has members: a kind in a scope (a tenant, or * for all) under a term ('' for no term).
CREATE TABLE tally (
  n INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  scope TEXT NOT NULL,
  term TEXT NOT NULL,
  total INTEGER NOT NULL,
  -- Members that are not marked deleted.
  live INTEGER NOT NULL,
  UNIQUE (kind, scope, term)
) STRICT;
CREATE TABLE member (
  tally INTEGER NOT NULL,
  id TEXT NOT NULL,
  PRIMARY KEY (tally, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE claim (
  pool TEXT NOT NULL,
  value TEXT NOT NULL,
  owner TEXT NOT NULL,
  ends TEXT NOT NULL,
  amount INTEGER NOT NULL,
  refusal TEXT,
  expires_at INTEGER,
  note TEXT,
  PRIMARY KEY (pool, value)
) STRICT, WITHOUT ROWID;
CREATE INDEX claim_owner ON claim (owner);
CREATE INDEX claim_expiry ON claim (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE pool (
  name TEXT PRIMARY KEY,
  max INTEGER,
  used INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- Whatever touches a claim keeps its pool's sum right.
CREATE TRIGGER claim_added AFTER INSERT ON claim WHEN new.amount <> 0 BEGIN
  INSERT INTO pool (name, max, used) VALUES (new.pool, NULL, new.amount)
    ON CONFLICT (name) DO UPDATE SET used = used + new.amount;
END;
CREATE TRIGGER claim_changed AFTER UPDATE OF amount ON claim WHEN new.amount <> old.amount BEGIN
  INSERT INTO pool (name, max, used) VALUES (new.pool, NULL, new.amount - old.amount)
    ON CONFLICT (name) DO UPDATE SET used = used + new.amount - old.amount;
END;
CREATE TRIGGER claim_ended AFTER DELETE ON claim WHEN old.amount <> 0 BEGIN
  UPDATE pool SET used = used - old.amount WHERE name = old.pool;
  DELETE FROM pool WHERE name = old.pool AND max IS NULL AND used = 0;
END;

CREATE TABLE guard (
  name TEXT PRIMARY KEY,
  moved INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE change (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  id TEXT NOT NULL,
  tenant TEXT NOT NULL,
  revision INTEGER NOT NULL,
  what TEXT NOT NULL
) STRICT;

CREATE TABLE record (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  stream TEXT NOT NULL,
  tenant TEXT NOT NULL,
  subject TEXT,
  at INTEGER NOT NULL,
  what TEXT NOT NULL,
  body TEXT NOT NULL
) STRICT;
CREATE INDEX record_stream ON record (stream, seq);
CREATE INDEX record_tenant ON record (stream, tenant, seq);
CREATE INDEX record_subject ON record (stream, subject, seq) WHERE subject IS NOT NULL;
CREATE INDEX record_at ON record (stream, at);

CREATE TABLE queue (
  key TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  at INTEGER NOT NULL,
  -- Enqueued while it was worked on: the earliest moment asked for since.
  next_at INTEGER,
  attempt INTEGER NOT NULL,
  reason TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX queue_at ON queue (at);

-- Every schema version that was ever written, by kind.
CREATE TABLE kind_version (
  kind TEXT NOT NULL,
  version INTEGER NOT NULL,
  PRIMARY KEY (kind, version)
) STRICT, WITHOUT ROWID;
