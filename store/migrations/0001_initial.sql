-- The first schema of the projection. Everything here can be made again from run directories.
--
-- Primary keys, but no foreign keys: a later state of a row replaces the earlier one by deleting and
-- inserting its key inside one transaction, and DuckDB refuses to delete a row that another table
-- still refers to, even where the same transaction puts it back. Ids are hashes of addresses, so
-- that a reference cannot point at the wrong row; `rebuild` mends a missing one.
--
-- Timestamps are TIMESTAMP in UTC, never TIMESTAMPTZ: that would be shown in the time zone of
-- whoever asks, and needs the ICU extension to be computed with.

CREATE TABLE schema_version (
  version INTEGER PRIMARY KEY,
  name VARCHAR NOT NULL,
  evoloom_version VARCHAR NOT NULL,
  applied_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE schema_version IS 'Migrations applied to this file; the highest version is the schema''s.';
COMMENT ON COLUMN schema_version.version IS 'Number of the migration.';
COMMENT ON COLUMN schema_version.name IS 'Name of the migration''s file, without number and suffix.';
COMMENT ON COLUMN schema_version.evoloom_version IS 'Version of evoloom that applied it.';
COMMENT ON COLUMN schema_version.applied_at IS 'When it was applied (UTC).';

CREATE TABLE runs (
  run_id VARCHAR PRIMARY KEY,
  kind VARCHAR NOT NULL,
  state VARCHAR NOT NULL,
  reason VARCHAR,
  target BIGINT,
  accepted BIGINT NOT NULL,
  surplus BIGINT NOT NULL,
  run_seed HUGEINT,
  "window" BIGINT,
  ceiling DOUBLE,
  rederived_from VARCHAR,
  novelty_against VARCHAR[] NOT NULL,
  created_at TIMESTAMP,
  started_at TIMESTAMP,
  finished_at TIMESTAMP,
  updated_at TIMESTAMP,
  elapsed_s DOUBLE,
  manifest JSON NOT NULL
);
COMMENT ON TABLE runs IS 'One row per run: its manifest and the state it was in when last ingested.';
COMMENT ON COLUMN runs.run_id IS 'The run''s id, also the name of its run directory.';
COMMENT ON COLUMN runs.kind IS 'What the run does, such as self-instruct.';
COMMENT ON COLUMN runs.state IS 'queued, running, paused, interrupted, cancelled, ceiling, failed or completed.';
COMMENT ON COLUMN runs.reason IS 'Why it is in this state, such as cap; NULL where the state says it all.';
COMMENT ON COLUMN runs.target IS 'Accepted instructions asked for.';
COMMENT ON COLUMN runs.accepted IS 'Instructions accepted so far.';
COMMENT ON COLUMN runs.surplus IS 'Instructions beyond the target: stored, outside accepted and export.';
COMMENT ON COLUMN runs.run_seed IS 'Seed of every random draw of the run.';
COMMENT ON COLUMN runs."window" IS 'Generation position g draws its shots from the pool after position g - window.';
COMMENT ON COLUMN runs.ceiling IS 'Generation positions are limited to ceiling times target.';
COMMENT ON COLUMN runs.rederived_from IS 'The run whose completions this one was derived from again, if any.';
COMMENT ON COLUMN runs.novelty_against IS 'Earlier runs that novelty was measured against, beside the seeds.';
COMMENT ON COLUMN runs.created_at IS 'When the manifest was written (UTC).';
COMMENT ON COLUMN runs.started_at IS 'When the run first started (UTC).';
COMMENT ON COLUMN runs.finished_at IS 'When it ended, NULL while it has not (UTC).';
COMMENT ON COLUMN runs.updated_at IS 'When its state was last written (UTC).';
COMMENT ON COLUMN runs.elapsed_s IS 'Seconds it has run, all its attempts together.';
COMMENT ON COLUMN runs.manifest IS 'The manifest as JSON; its seed rows are in seed_tasks and seed_instances instead.';

CREATE TABLE seed_tasks (
  run_id VARCHAR NOT NULL,
  seed_id VARCHAR NOT NULL,
  ordinal INTEGER NOT NULL,
  name VARCHAR NOT NULL,
  instruction VARCHAR NOT NULL,
  is_classification BOOLEAN NOT NULL,
  PRIMARY KEY (run_id, seed_id)
);
COMMENT ON TABLE seed_tasks IS 'The human-written tasks that a run stood on, as its manifest holds them.';
COMMENT ON COLUMN seed_tasks.run_id IS 'The run.';
COMMENT ON COLUMN seed_tasks.seed_id IS 'The seed task''s own id.';
COMMENT ON COLUMN seed_tasks.ordinal IS 'Its place in the manifest, from 0.';
COMMENT ON COLUMN seed_tasks.name IS 'Its short name.';
COMMENT ON COLUMN seed_tasks.instruction IS 'Its instruction.';
COMMENT ON COLUMN seed_tasks.is_classification IS 'Whether it has a finite set of output labels.';

CREATE TABLE seed_instances (
  run_id VARCHAR NOT NULL,
  seed_id VARCHAR NOT NULL,
  "index" INTEGER NOT NULL,
  input VARCHAR NOT NULL,
  output VARCHAR NOT NULL,
  PRIMARY KEY (run_id, seed_id, "index")
);
COMMENT ON TABLE seed_instances IS 'The instances of the seed tasks that a run stood on.';
COMMENT ON COLUMN seed_instances.run_id IS 'The run.';
COMMENT ON COLUMN seed_instances.seed_id IS 'The seed task it belongs to.';
COMMENT ON COLUMN seed_instances."index" IS 'Its place among the task''s instances, from 0.';
COMMENT ON COLUMN seed_instances.input IS 'Input; empty where none is needed.';
COMMENT ON COLUMN seed_instances.output IS 'Output.';

CREATE TABLE completions (
  id VARCHAR PRIMARY KEY,
  run_id VARCHAR NOT NULL,
  stage VARCHAR NOT NULL,
  position INTEGER[] NOT NULL,
  generation INTEGER NOT NULL,
  item INTEGER,
  attempt INTEGER NOT NULL,
  state VARCHAR NOT NULL,
  reason VARCHAR,
  text VARCHAR,
  finish_reason VARCHAR,
  prompt_tokens BIGINT,
  completion_tokens BIGINT,
  cached_tokens BIGINT,
  reserved_tokens BIGINT NOT NULL,
  latency_s DOUBLE NOT NULL,
  answered_at TIMESTAMP,
  model VARCHAR NOT NULL,
  machine_shots INTEGER NOT NULL
);
COMMENT ON TABLE completions IS 'One row per journaled outcome: a teacher''s answer, or a refusal of this one request.';
COMMENT ON COLUMN completions.id IS 'Hash of (run_id, stage, position, attempt).';
COMMENT ON COLUMN completions.run_id IS 'The run.';
COMMENT ON COLUMN completions.stage IS 'The stage that asked.';
COMMENT ON COLUMN completions.position IS 'Position in the run: [g], or [g, i] downstream of generation.';
COMMENT ON COLUMN completions.generation IS 'First number of the position.';
COMMENT ON COLUMN completions.item IS 'Second number of the position: the item in the parsed completion; NULL where there is none.';
COMMENT ON COLUMN completions.attempt IS 'Deliberate re-asks before this one; 0 for the first.';
COMMENT ON COLUMN completions.state IS 'used, discarded or surplus.';
COMMENT ON COLUMN completions.reason IS 'Why it was discarded.';
COMMENT ON COLUMN completions.text IS 'The raw answer; NULL for a refusal.';
COMMENT ON COLUMN completions.finish_reason IS 'Why the teacher stopped, as the endpoint said.';
COMMENT ON COLUMN completions.prompt_tokens IS 'Tokens of the prompt as the endpoint counted; NULL where it sent no usage.';
COMMENT ON COLUMN completions.completion_tokens IS 'Tokens of the answer; NULL where the endpoint sent no usage.';
COMMENT ON COLUMN completions.cached_tokens IS 'Tokens of the prompt served from a cache; NULL where the endpoint sent no usage.';
COMMENT ON COLUMN completions.reserved_tokens IS 'Tokens reserved before sending; what counts against caps where there is no usage.';
COMMENT ON COLUMN completions.latency_s IS 'Seconds from sending to the answer.';
COMMENT ON COLUMN completions.answered_at IS 'When the answer was journaled (UTC).';
COMMENT ON COLUMN completions.model IS 'The model as the endpoint named it.';
COMMENT ON COLUMN completions.machine_shots IS 'How many of its shots were generated by the run itself.';

CREATE TABLE shots (
  completion_id VARCHAR NOT NULL,
  slot INTEGER NOT NULL,
  run_id VARCHAR NOT NULL,
  source VARCHAR NOT NULL,
  reference VARCHAR NOT NULL,
  PRIMARY KEY (completion_id, slot)
);
COMMENT ON TABLE shots IS 'The instructions shown in a generation prompt; the view shot_texts adds their text.';
COMMENT ON COLUMN shots.completion_id IS 'The completion whose prompt it was.';
COMMENT ON COLUMN shots.slot IS 'Its place in the prompt, from 0.';
COMMENT ON COLUMN shots.run_id IS 'The run.';
COMMENT ON COLUMN shots.source IS 'seed or machine.';
COMMENT ON COLUMN shots.reference IS 'A seed''s id, or the position g.i of an instruction of this run.';

CREATE TABLE instructions (
  id VARCHAR PRIMARY KEY,
  run_id VARCHAR NOT NULL,
  stage VARCHAR NOT NULL,
  position INTEGER[] NOT NULL,
  generation INTEGER NOT NULL,
  item INTEGER,
  text VARCHAR NOT NULL,
  state VARCHAR NOT NULL,
  reason VARCHAR,
  evidence VARCHAR,
  score DOUBLE,
  blocker_source VARCHAR,
  blocker_reference VARCHAR,
  blocker_text VARCHAR,
  is_classification BOOLEAN,
  parent VARCHAR,
  parent_id VARCHAR,
  operator VARCHAR,
  round INTEGER
);
COMMENT ON TABLE instructions IS 'One row per parsed instruction, admitted or not.';
COMMENT ON COLUMN instructions.id IS 'Hash of (run_id, stage, position).';
COMMENT ON COLUMN instructions.run_id IS 'The run.';
COMMENT ON COLUMN instructions.stage IS 'The stage that made it.';
COMMENT ON COLUMN instructions.position IS 'Position in the run; ascending is admission order.';
COMMENT ON COLUMN instructions.generation IS 'First number of the position.';
COMMENT ON COLUMN instructions.item IS 'Second number of the position: the item in the parsed completion; NULL where there is none.';
COMMENT ON COLUMN instructions.text IS 'The instruction.';
COMMENT ON COLUMN instructions.state IS 'pending, accepted, rejected, without_instances, surplus or left_out.';
COMMENT ON COLUMN instructions.reason IS 'The filter that rejected it, or why it has no instances.';
COMMENT ON COLUMN instructions.evidence IS 'What the filter saw, such as the word that it found.';
COMMENT ON COLUMN instructions.score IS 'Best ROUGE-L F-measure, where novelty was measured.';
COMMENT ON COLUMN instructions.blocker_source IS 'seed, run or machine: where the text that kept it out stands.';
COMMENT ON COLUMN instructions.blocker_reference IS 'A seed''s id, `RUN g.i` of an earlier run, or `g.i` of this run.';
COMMENT ON COLUMN instructions.blocker_text IS 'The text that kept it out.';
COMMENT ON COLUMN instructions.is_classification IS 'Whether it was found to be a classification task; NULL where nobody asked.';
COMMENT ON COLUMN instructions.parent IS 'Evolution: the parent''s position, or source:SLOT in round 0.';
COMMENT ON COLUMN instructions.parent_id IS 'Evolution: id of the parent''s row; NULL in round 0.';
COMMENT ON COLUMN instructions.operator IS 'Evolution: the operator that made it.';
COMMENT ON COLUMN instructions.round IS 'Evolution: the round, from 0.';

CREATE TABLE instances (
  id VARCHAR PRIMARY KEY,
  instruction_id VARCHAR NOT NULL,
  run_id VARCHAR NOT NULL,
  stage VARCHAR NOT NULL,
  position INTEGER[] NOT NULL,
  generation INTEGER NOT NULL,
  item INTEGER,
  "index" INTEGER NOT NULL,
  input VARCHAR NOT NULL,
  output VARCHAR NOT NULL,
  state VARCHAR NOT NULL,
  reason VARCHAR
);
COMMENT ON TABLE instances IS 'One row per parsed (input, output) pair, accepted or not.';
COMMENT ON COLUMN instances.id IS 'Hash of (run_id, stage, position, index).';
COMMENT ON COLUMN instances.instruction_id IS 'The instruction it belongs to.';
COMMENT ON COLUMN instances.run_id IS 'The run.';
COMMENT ON COLUMN instances.stage IS 'The stage of its instruction.';
COMMENT ON COLUMN instances.position IS 'The position of its instruction.';
COMMENT ON COLUMN instances.generation IS 'First number of the position.';
COMMENT ON COLUMN instances.item IS 'Second number of the position; NULL where there is none.';
COMMENT ON COLUMN instances."index" IS 'Its place among the instances as parsed, from 0.';
COMMENT ON COLUMN instances.input IS 'Input; empty where none is needed.';
COMMENT ON COLUMN instances.output IS 'Output.';
COMMENT ON COLUMN instances.state IS 'accepted, rejected or surplus.';
COMMENT ON COLUMN instances.reason IS 'Why it was rejected.';

CREATE TABLE watermarks (
  run_id VARCHAR NOT NULL,
  stream VARCHAR NOT NULL,
  position INTEGER[] NOT NULL,
  spool_offset BIGINT NOT NULL,
  line_start BIGINT NOT NULL,
  line_checksum VARCHAR NOT NULL,
  PRIMARY KEY (run_id, stream)
);
COMMENT ON TABLE watermarks IS 'How far each run''s spool has been ingested; written in the transaction of the rows.';
COMMENT ON COLUMN watermarks.run_id IS 'The run.';
COMMENT ON COLUMN watermarks.stream IS 'The stream of batches.';
COMMENT ON COLUMN watermarks.position IS 'Position of the stream''s last ingested batch.';
COMMENT ON COLUMN watermarks.spool_offset IS 'Byte of the spool after that batch; the highest of a run is where ingest goes on.';
COMMENT ON COLUMN watermarks.line_start IS 'Byte of the spool where that batch starts.';
COMMENT ON COLUMN watermarks.line_checksum IS 'Checksum of that batch: a spool that no longer has it there is ingested from its start.';

CREATE TABLE snapshot (
  generation BIGINT PRIMARY KEY,
  taken_at TIMESTAMP NOT NULL,
  run_ids VARCHAR[] NOT NULL
);
COMMENT ON TABLE snapshot IS 'One row in a published snapshot, none in the live file: when it was taken and of which runs.';
COMMENT ON COLUMN snapshot.generation IS 'Number of the snapshot, rising by one with each.';
COMMENT ON COLUMN snapshot.taken_at IS 'When it was taken (UTC).';
COMMENT ON COLUMN snapshot.run_ids IS 'The runs in it, in ascending order.';
