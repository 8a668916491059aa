-- The maximum of a pool and a guard go with the resource they belong to, which their names held so far.

ALTER TABLE pool ADD COLUMN owner TEXT;
UPDATE pool SET owner = substr(name, instr(name, ':') + 1, 36)
  WHERE max IS NOT NULL AND substr(name, instr(name, ':') + 1, 36) IN (SELECT id FROM resource);
DELETE FROM pool WHERE max IS NOT NULL AND owner IS NULL AND used = 0;
CREATE INDEX pool_owner ON pool (owner) WHERE owner IS NOT NULL;

ALTER TABLE guard ADD COLUMN owner TEXT;
UPDATE guard SET owner = substr(name, instr(name, ':') + 1, 36)
  WHERE substr(name, instr(name, ':') + 1, 36) IN (SELECT id FROM resource);
DELETE FROM guard WHERE owner IS NULL AND instr(name, ':') > 0;
CREATE INDEX guard_owner ON guard (owner) WHERE owner IS NOT NULL;
