-- The service's own database. `revision` rises with every change of a seed task or a seed set, so
-- that DuckDB can take over just what is new, and readers know what has changed.

CREATE TABLE revision (number INTEGER NOT NULL);
INSERT INTO revision VALUES (0);

CREATE TABLE keys (
  key_id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  hash BLOB NOT NULL,
  scopes TEXT NOT NULL,
  created_at TEXT NOT NULL,
  revoked_at TEXT
) WITHOUT ROWID;

CREATE TABLE idempotency (
  owner TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  status INTEGER NOT NULL,
  location TEXT,
  body BLOB NOT NULL,
  created_at TEXT NOT NULL,
  PRIMARY KEY (owner, idempotency_key)
) WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency (created_at);

CREATE TABLE seed_tasks (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  instruction TEXT NOT NULL,
  is_classification INTEGER NOT NULL,
  instances TEXT NOT NULL,
  submitted_by TEXT NOT NULL,
  submitted_at TEXT NOT NULL,
  retracted_at TEXT,
  revision INTEGER NOT NULL
);
CREATE UNIQUE INDEX seed_task_texts ON seed_tasks (instruction) WHERE retracted_at IS NULL;
CREATE INDEX seed_task_revisions ON seed_tasks (revision);

CREATE TABLE seed_sets (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  description TEXT NOT NULL,
  created_by TEXT NOT NULL,
  created_at TEXT NOT NULL,
  revision INTEGER NOT NULL
);
CREATE TABLE seed_set_members (
  name TEXT NOT NULL,
  ordinal INTEGER NOT NULL,
  seed_task_id TEXT NOT NULL,
  PRIMARY KEY (name, ordinal)
) WITHOUT ROWID;

CREATE TABLE run_requests (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id TEXT NOT NULL UNIQUE,
  method TEXT NOT NULL,
  seed_set TEXT,
  seeds TEXT,
  settings TEXT NOT NULL,
  requested_by TEXT NOT NULL,
  requested_at TEXT NOT NULL,
  state TEXT NOT NULL,
  reason TEXT,
  executor TEXT,
  flow_run_id TEXT,
  cancel_requested INTEGER NOT NULL DEFAULT 0,
  updated_at TEXT NOT NULL
);
CREATE INDEX run_request_states ON run_requests (state);
