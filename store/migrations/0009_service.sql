-- What was submitted over REST (docs/API.md), taken over from the service's database at each ingest.
-- Keys, answers and requests stay there: nobody analyses them, and a key has no place here.

CREATE TABLE pool_seed_tasks (
  seed_task_id VARCHAR PRIMARY KEY,
  number BIGINT NOT NULL,
  name VARCHAR NOT NULL,
  instruction VARCHAR NOT NULL,
  is_classification BOOLEAN NOT NULL,
  submitted_by VARCHAR NOT NULL,
  submitted_at TIMESTAMP NOT NULL,
  retracted_at TIMESTAMP
);
COMMENT ON TABLE pool_seed_tasks IS 'Seed tasks that were submitted over REST. What a run stood on is in seed_tasks.';
COMMENT ON COLUMN pool_seed_tasks.seed_task_id IS 'The seed task''s id; of a run from a seed set, seed_tasks.seed_id.';
COMMENT ON COLUMN pool_seed_tasks.number IS 'Its place in the pool; ascending is the order in which they came.';
COMMENT ON COLUMN pool_seed_tasks.name IS 'Its short name.';
COMMENT ON COLUMN pool_seed_tasks.instruction IS 'Its instruction.';
COMMENT ON COLUMN pool_seed_tasks.is_classification IS 'Whether it has a finite set of output labels.';
COMMENT ON COLUMN pool_seed_tasks.submitted_by IS 'Id of the key that submitted it; local where the service runs without keys.';
COMMENT ON COLUMN pool_seed_tasks.submitted_at IS 'When it was submitted (UTC).';
COMMENT ON COLUMN pool_seed_tasks.retracted_at IS 'When it was retracted (UTC); NULL while it has not been.';

CREATE TABLE pool_seed_instances (
  seed_task_id VARCHAR NOT NULL,
  "index" INTEGER NOT NULL,
  input VARCHAR NOT NULL,
  output VARCHAR NOT NULL,
  PRIMARY KEY (seed_task_id, "index")
);
COMMENT ON TABLE pool_seed_instances IS 'The instances of the seed tasks that were submitted over REST.';
COMMENT ON COLUMN pool_seed_instances.seed_task_id IS 'The seed task it belongs to.';
COMMENT ON COLUMN pool_seed_instances."index" IS 'Its place among the task''s instances, from 0.';
COMMENT ON COLUMN pool_seed_instances.input IS 'Input; empty where none is needed.';
COMMENT ON COLUMN pool_seed_instances.output IS 'Output.';

CREATE TABLE seed_sets (
  name VARCHAR NOT NULL,
  ordinal INTEGER NOT NULL,
  seed_task_id VARCHAR NOT NULL,
  created_by VARCHAR NOT NULL,
  created_at TIMESTAMP NOT NULL,
  PRIMARY KEY (name, ordinal)
);
COMMENT ON TABLE seed_sets IS 'Named selections of submitted seed tasks that runs start from, one row a member.';
COMMENT ON COLUMN seed_sets.name IS 'The set''s name.';
COMMENT ON COLUMN seed_sets.ordinal IS 'The member''s place in it, from 0.';
COMMENT ON COLUMN seed_sets.seed_task_id IS 'The member.';
COMMENT ON COLUMN seed_sets.created_by IS 'Id of the key that made the set.';
COMMENT ON COLUMN seed_sets.created_at IS 'When it was made (UTC).';

CREATE TABLE service_watermark (
  revision BIGINT PRIMARY KEY
);
COMMENT ON TABLE service_watermark IS 'How far the service''s database has been taken over; written in the transaction of the rows.';
COMMENT ON COLUMN service_watermark.revision IS 'Number of the last change that is in these tables.';
