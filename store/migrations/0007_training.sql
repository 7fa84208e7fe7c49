-- Training of students: one row a training, one row for each step or measurement of it.

CREATE TABLE trainings (
  run_id VARCHAR PRIMARY KEY,
  dataset VARCHAR NOT NULL,
  content_hash VARCHAR,
  base VARCHAR NOT NULL,
  method VARCHAR NOT NULL,
  template VARCHAR NOT NULL,
  dtype VARCHAR NOT NULL,
  train_examples BIGINT NOT NULL,
  held_out_examples BIGINT NOT NULL,
  truncated BIGINT,
  dropped BIGINT,
  parameters BIGINT,
  trainable_parameters BIGINT,
  estimated_memory_bytes BIGINT,
  peak_memory_bytes BIGINT,
  base_held_out_loss DOUBLE,
  held_out_loss DOUBLE,
  steps BIGINT,
  epochs DOUBLE,
  stopped_early BOOLEAN,
  tokens_per_s DOUBLE,
  trained_tokens_per_s DOUBLE,
  device VARCHAR,
  processes INTEGER
);
COMMENT ON TABLE trainings IS 'One row per training of a student; what only its end knows is NULL until then.';
COMMENT ON COLUMN trainings.run_id IS 'The training run.';
COMMENT ON COLUMN trainings.dataset IS 'The run, import or dataset version that was trained on, or the file''s name.';
COMMENT ON COLUMN trainings.content_hash IS 'Hash of what was trained on: the dataset version''s, or the file''s.';
COMMENT ON COLUMN trainings.base IS 'Name of the base model.';
COMMENT ON COLUMN trainings.method IS 'Method of fine-tuning.';
COMMENT ON COLUMN trainings.template IS 'How prompts were written: chat or alpaca.';
COMMENT ON COLUMN trainings.dtype IS 'Number format of the computation.';
COMMENT ON COLUMN trainings.train_examples IS 'Examples given to train on, before any was dropped.';
COMMENT ON COLUMN trainings.held_out_examples IS 'Examples held out, whole lineages.';
COMMENT ON COLUMN trainings.truncated IS 'Examples that were cut to the longest length.';
COMMENT ON COLUMN trainings.dropped IS 'Examples left out because they were longer.';
COMMENT ON COLUMN trainings.parameters IS 'Parameters of base and adapter together.';
COMMENT ON COLUMN trainings.trainable_parameters IS 'Parameters that were trained.';
COMMENT ON COLUMN trainings.estimated_memory_bytes IS 'Peak memory as estimated before the start.';
COMMENT ON COLUMN trainings.peak_memory_bytes IS 'Peak memory measured: resident above that after imports, or the GPU allocator''s.';
COMMENT ON COLUMN trainings.base_held_out_loss IS 'The base model''s mean loss over held-out response tokens.';
COMMENT ON COLUMN trainings.held_out_loss IS 'The tuned student''s.';
COMMENT ON COLUMN trainings.steps IS 'Optimiser steps taken.';
COMMENT ON COLUMN trainings.epochs IS 'Passes over the training examples.';
COMMENT ON COLUMN trainings.stopped_early IS 'Whether it ended because the held-out loss no longer improved.';
COMMENT ON COLUMN trainings.tokens_per_s IS 'Tokens a second without padding, evaluation included.';
COMMENT ON COLUMN trainings.trained_tokens_per_s IS 'Response tokens a second, evaluation included.';
COMMENT ON COLUMN trainings.device IS 'What it ran on.';
COMMENT ON COLUMN trainings.processes IS 'Processes that trained together.';

CREATE TABLE training_metrics (
  run_id VARCHAR NOT NULL,
  line INTEGER NOT NULL,
  measured_at TIMESTAMP NOT NULL,
  step BIGINT NOT NULL,
  epoch DOUBLE,
  loss DOUBLE,
  held_out_loss DOUBLE,
  learning_rate DOUBLE,
  grad_norm DOUBLE,
  tokens_per_s DOUBLE,
  trained_tokens_per_s DOUBLE,
  peak_memory_bytes BIGINT,
  PRIMARY KEY (run_id, line)
);
COMMENT ON TABLE training_metrics IS 'One row per step of a training, and one per measurement of its held-out loss.';
COMMENT ON COLUMN training_metrics.run_id IS 'The training run.';
COMMENT ON COLUMN training_metrics.line IS 'Its place in the run''s metrics, from 0.';
COMMENT ON COLUMN training_metrics.measured_at IS 'When it was measured (UTC).';
COMMENT ON COLUMN training_metrics.step IS 'Optimiser steps taken by then.';
COMMENT ON COLUMN training_metrics.epoch IS 'Passes over the training examples by then.';
COMMENT ON COLUMN training_metrics.loss IS 'Mean loss over the response tokens of the step; NULL in a measurement.';
COMMENT ON COLUMN training_metrics.held_out_loss IS 'Mean loss over held-out response tokens; NULL in a step.';
COMMENT ON COLUMN training_metrics.learning_rate IS 'Learning rate of the step.';
COMMENT ON COLUMN training_metrics.grad_norm IS 'Norm of the gradients before it was limited.';
COMMENT ON COLUMN training_metrics.tokens_per_s IS 'Tokens a second over the latest steps, padding left out.';
COMMENT ON COLUMN training_metrics.trained_tokens_per_s IS 'Response tokens a second over the latest steps.';
COMMENT ON COLUMN training_metrics.peak_memory_bytes IS 'Peak memory so far, since the process began.';

CREATE VIEW training_curves AS
SELECT
  run_id,
  step,
  any_value(epoch) AS epoch,
  max(loss) AS loss,
  max(held_out_loss) AS held_out_loss,
  max(learning_rate) AS learning_rate,
  max(tokens_per_s) AS tokens_per_s
FROM training_metrics
GROUP BY run_id, step
ORDER BY run_id, step;
COMMENT ON VIEW training_curves IS 'Losses by step: one row for each step of each training, ready to plot.';
COMMENT ON COLUMN training_curves.run_id IS 'The training run.';
COMMENT ON COLUMN training_curves.step IS 'Optimiser steps taken.';
COMMENT ON COLUMN training_curves.epoch IS 'Passes over the training examples by then.';
COMMENT ON COLUMN training_curves.loss IS 'Mean loss of the step''s response tokens.';
COMMENT ON COLUMN training_curves.held_out_loss IS 'Held-out loss, where it was measured after this step.';
COMMENT ON COLUMN training_curves.learning_rate IS 'Learning rate of the step.';
COMMENT ON COLUMN training_curves.tokens_per_s IS 'Tokens a second over the latest steps.';
