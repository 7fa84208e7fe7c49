-- Evaluations: a tuned student against its base, per item and as differences with intervals.
--
-- All of it is read from the run directory of an evaluation that has ended; the judge's answers are
-- in completions, like any teacher's.

CREATE TABLE evaluations (
  run_id VARCHAR PRIMARY KEY,
  training_run VARCHAR NOT NULL,
  dataset VARCHAR,
  base_name VARCHAR NOT NULL,
  base_hash VARCHAR NOT NULL,
  method VARCHAR NOT NULL,
  adapter_hash VARCHAR NOT NULL,
  template VARCHAR NOT NULL,
  dtype VARCHAR NOT NULL,
  serving VARCHAR NOT NULL,
  proof_tokens BIGINT,
  proof_disagreement DOUBLE,
  proof_effect DOUBLE,
  proof_scaled_disagreement DOUBLE,
  proof_scaled_effect DOUBLE,
  judge_model VARCHAR,
  resamples BIGINT NOT NULL,
  confidence DOUBLE NOT NULL,
  seed BIGINT NOT NULL
);
COMMENT ON TABLE evaluations IS 'One row per finished evaluation: which student, against which base, and how both were served.';
COMMENT ON COLUMN evaluations.run_id IS 'The evaluation''s run.';
COMMENT ON COLUMN evaluations.training_run IS 'The training run whose student was evaluated.';
COMMENT ON COLUMN evaluations.dataset IS 'What it was trained on: a dataset version, run or import.';
COMMENT ON COLUMN evaluations.base_name IS 'The base model''s name.';
COMMENT ON COLUMN evaluations.base_hash IS 'Hash of the base model''s files.';
COMMENT ON COLUMN evaluations.method IS 'The method of fine-tuning.';
COMMENT ON COLUMN evaluations.adapter_hash IS 'Hash of what the training saved.';
COMMENT ON COLUMN evaluations.template IS 'How prompts were written: chat or alpaca.';
COMMENT ON COLUMN evaluations.dtype IS 'Number format that both students computed in.';
COMMENT ON COLUMN evaluations.serving IS 'adapter (LoRA in vLLM), merged (a merged checkpoint in vLLM) or transformers.';
COMMENT ON COLUMN evaluations.proof_tokens IS 'Fixed tokens that the proof was made on; NULL where nothing was served for this evaluation.';
COMMENT ON COLUMN evaluations.proof_disagreement IS 'Mean absolute difference of log-probabilities, served against PEFT, nats a token; at most 0.05.';
COMMENT ON COLUMN evaluations.proof_effect IS 'The same, served against the base.';
COMMENT ON COLUMN evaluations.proof_scaled_disagreement IS 'Served against PEFT of a copy scaled by 8, where the adapter itself was too weak to tell; else NULL.';
COMMENT ON COLUMN evaluations.proof_scaled_effect IS 'The same, served against the base.';
COMMENT ON COLUMN evaluations.judge_model IS 'The teacher that judged; NULL where nobody did.';
COMMENT ON COLUMN evaluations.resamples IS 'Resamples of the paired bootstrap.';
COMMENT ON COLUMN evaluations.confidence IS 'Share of the resamples that an interval holds.';
COMMENT ON COLUMN evaluations.seed IS 'Seed of the bootstrap, and of the draw of items.';

CREATE TABLE evaluation_files (
  run_id VARCHAR NOT NULL,
  file INTEGER NOT NULL,
  part VARCHAR NOT NULL,
  name VARCHAR NOT NULL,
  sha256 VARCHAR NOT NULL,
  items BIGINT NOT NULL,
  asked BIGINT NOT NULL,
  contaminated BIGINT,
  PRIMARY KEY (run_id, file)
);
COMMENT ON TABLE evaluation_files IS 'The files of an evaluation, and what of them is in the training data.';
COMMENT ON COLUMN evaluation_files.run_id IS 'The evaluation.';
COMMENT ON COLUMN evaluation_files.file IS 'Number of the file in the evaluation, from 0.';
COMMENT ON COLUMN evaluation_files.part IS 'held_out, tasks, user_oriented or benchmark.';
COMMENT ON COLUMN evaluation_files.name IS 'The file''s name, the held-out split''s training run, or the benchmarks'' names.';
COMMENT ON COLUMN evaluation_files.sha256 IS 'Hash of its content; empty for benchmarks.';
COMMENT ON COLUMN evaluation_files.items IS 'Items in the file.';
COMMENT ON COLUMN evaluation_files.asked IS 'Items that were asked.';
COMMENT ON COLUMN evaluation_files.contaminated IS 'Asked items that a training example holds; NULL where nobody looked.';

CREATE TABLE evaluation_scorings (
  run_id VARCHAR NOT NULL,
  file INTEGER NOT NULL,
  student VARCHAR NOT NULL,
  scoring_key VARCHAR NOT NULL,
  items BIGINT NOT NULL,
  recorded_from VARCHAR[] NOT NULL,
  scored_at TIMESTAMP NOT NULL,
  PRIMARY KEY (run_id, file, student)
);
COMMENT ON TABLE evaluation_scorings IS 'The log of scorings: each time a configuration scored an evaluation file. The same key again takes the recorded answers.';
COMMENT ON COLUMN evaluation_scorings.run_id IS 'The evaluation.';
COMMENT ON COLUMN evaluation_scorings.file IS 'The file, as evaluation_files.file.';
COMMENT ON COLUMN evaluation_scorings.student IS 'base, tuned, or judge (both answers compared).';
COMMENT ON COLUMN evaluation_scorings.scoring_key IS 'Hash of base, adapter, file and decoding; of both scorings and the judge for a judge''s.';
COMMENT ON COLUMN evaluation_scorings.items IS 'Items that were scored.';
COMMENT ON COLUMN evaluation_scorings.recorded_from IS 'Earlier evaluations that answers were taken from; empty where all were asked now.';
COMMENT ON COLUMN evaluation_scorings.scored_at IS 'When (UTC).';

CREATE TABLE evaluation_items (
  id VARCHAR PRIMARY KEY,
  run_id VARCHAR NOT NULL,
  file INTEGER NOT NULL,
  item INTEGER NOT NULL,
  part VARCHAR NOT NULL,
  name VARCHAR NOT NULL,
  task VARCHAR NOT NULL,
  category VARCHAR,
  is_classification BOOLEAN NOT NULL,
  is_contaminated BOOLEAN NOT NULL,
  system VARCHAR,
  instruction VARCHAR NOT NULL,
  input VARCHAR NOT NULL,
  reference_answers VARCHAR[] NOT NULL,
  base_answer VARCHAR NOT NULL,
  tuned_answer VARCHAR NOT NULL,
  base_finish VARCHAR,
  tuned_finish VARCHAR,
  verdict VARCHAR
);
COMMENT ON TABLE evaluation_items IS 'Every item that was asked, with both students'' answers.';
COMMENT ON COLUMN evaluation_items.id IS 'Identifier of the item in this evaluation.';
COMMENT ON COLUMN evaluation_items.run_id IS 'The evaluation.';
COMMENT ON COLUMN evaluation_items.file IS 'The file, as evaluation_files.file.';
COMMENT ON COLUMN evaluation_items.item IS 'Its place in the file, from 0.';
COMMENT ON COLUMN evaluation_items.part IS 'held_out, tasks, user_oriented or benchmark.';
COMMENT ON COLUMN evaluation_items.name IS 'Its id: the instance''s, the task''s, or TASK/DOCUMENT of a benchmark.';
COMMENT ON COLUMN evaluation_items.task IS 'What the bootstrap resamples first: the task, or the lineage root of a held-out instruction.';
COMMENT ON COLUMN evaluation_items.category IS 'The task''s category, or a user-oriented task''s domain.';
COMMENT ON COLUMN evaluation_items.is_classification IS 'Whether it is a held-out classification task.';
COMMENT ON COLUMN evaluation_items.is_contaminated IS 'Whether a training example holds it.';
COMMENT ON COLUMN evaluation_items.system IS 'System message of a held-out conversation.';
COMMENT ON COLUMN evaluation_items.instruction IS 'Instruction, definition, or a benchmark''s prompt.';
COMMENT ON COLUMN evaluation_items.input IS 'Its input; empty where there is none.';
COMMENT ON COLUMN evaluation_items.reference_answers IS 'Good answers; scores take the best match.';
COMMENT ON COLUMN evaluation_items.base_answer IS 'What the base answered; empty where its request was refused.';
COMMENT ON COLUMN evaluation_items.tuned_answer IS 'What the tuned student answered.';
COMMENT ON COLUMN evaluation_items.base_finish IS 'Why the base''s answer ended: stop, length, or why it was refused.';
COMMENT ON COLUMN evaluation_items.tuned_finish IS 'Why the tuned student''s answer ended.';
COMMENT ON COLUMN evaluation_items.verdict IS 'How the judge came to its verdict: agreed, inconsistent (the orders disagree), unreadable or identical; NULL where it was not asked.';

CREATE TABLE evaluation_scores (
  item_id VARCHAR NOT NULL,
  run_id VARCHAR NOT NULL,
  metric VARCHAR NOT NULL,
  student VARCHAR NOT NULL,
  value DOUBLE NOT NULL,
  weight DOUBLE NOT NULL,
  PRIMARY KEY (item_id, metric, student)
);
COMMENT ON TABLE evaluation_scores IS 'Every score of every item.';
COMMENT ON COLUMN evaluation_scores.item_id IS 'The item.';
COMMENT ON COLUMN evaluation_scores.run_id IS 'The evaluation.';
COMMENT ON COLUMN evaluation_scores.metric IS 'rouge_l and exact_match (0 to 1), nll (negative log-likelihood of the response, nats a token), judge (1 the tuned student won, 0 tie, -1 the base), or a benchmark''s own.';
COMMENT ON COLUMN evaluation_scores.student IS 'base, tuned, or pair for judge.';
COMMENT ON COLUMN evaluation_scores.value IS 'The score.';
COMMENT ON COLUMN evaluation_scores.weight IS 'What a mean counts it by: tokens for nll, else 1.';

CREATE TABLE evaluation_differences (
  run_id VARCHAR NOT NULL,
  file INTEGER NOT NULL,
  group_name VARCHAR NOT NULL,
  metric VARCHAR NOT NULL,
  items BIGINT NOT NULL,
  base DOUBLE NOT NULL,
  tuned DOUBLE NOT NULL,
  difference DOUBLE NOT NULL,
  low DOUBLE NOT NULL,
  high DOUBLE NOT NULL,
  notes JSON NOT NULL,
  PRIMARY KEY (run_id, file, group_name, metric)
);
COMMENT ON TABLE evaluation_differences IS 'Means of base and tuned, their difference, and its paired bootstrap interval (by task, then by item).';
COMMENT ON COLUMN evaluation_differences.run_id IS 'The evaluation.';
COMMENT ON COLUMN evaluation_differences.file IS 'The file, as evaluation_files.file.';
COMMENT ON COLUMN evaluation_differences.group_name IS 'all, a category, task NAME, or without contaminated items.';
COMMENT ON COLUMN evaluation_differences.metric IS 'The metric, as evaluation_scores.metric; for judge base and tuned are the shares of items that each won.';
COMMENT ON COLUMN evaluation_differences.items IS 'Items that both students have a score for.';
COMMENT ON COLUMN evaluation_differences.base IS 'The base''s weighted mean.';
COMMENT ON COLUMN evaluation_differences.tuned IS 'The tuned student''s.';
COMMENT ON COLUMN evaluation_differences.difference IS 'Tuned minus base; of nll, less is better.';
COMMENT ON COLUMN evaluation_differences.low IS 'Lower end of the interval.';
COMMENT ON COLUMN evaluation_differences.high IS 'Upper end.';
COMMENT ON COLUMN evaluation_differences.notes IS 'Counts that belong to it, such as ties and inconsistent orders of a judge.';

CREATE VIEW evaluation_comparison AS
WITH scores AS (
  SELECT
    item_id,
    metric,
    max(value) FILTER (student = 'base') AS base,
    max(value) FILTER (student = 'tuned') AS tuned,
    max(value) FILTER (student = 'pair') AS pair,
    max(weight) AS weight
  FROM evaluation_scores
  GROUP BY item_id, metric
)
SELECT
  i.run_id,
  e.training_run,
  f.name AS file_name,
  i.part,
  i.name AS item_name,
  i.task,
  i.category,
  i.is_contaminated,
  s.metric,
  s.base,
  s.tuned,
  coalesce(s.pair, s.tuned - s.base) AS difference,
  s.weight,
  i.instruction,
  i.input,
  i.reference_answers,
  i.base_answer,
  i.tuned_answer
FROM scores AS s
JOIN evaluation_items AS i ON i.id = s.item_id
JOIN evaluation_files AS f ON f.run_id = i.run_id AND f.file = i.file
JOIN evaluations AS e ON e.run_id = i.run_id
ORDER BY i.run_id, i.file, i.item, s.metric;
COMMENT ON VIEW evaluation_comparison IS 'Base and tuned side by side, a row for each item and metric, with the texts.';
COMMENT ON COLUMN evaluation_comparison.run_id IS 'The evaluation.';
COMMENT ON COLUMN evaluation_comparison.training_run IS 'The training run.';
COMMENT ON COLUMN evaluation_comparison.file_name IS 'The evaluation file.';
COMMENT ON COLUMN evaluation_comparison.part IS 'held_out, tasks, user_oriented or benchmark.';
COMMENT ON COLUMN evaluation_comparison.item_name IS 'The item.';
COMMENT ON COLUMN evaluation_comparison.task IS 'Its task.';
COMMENT ON COLUMN evaluation_comparison.category IS 'Its category or domain.';
COMMENT ON COLUMN evaluation_comparison.is_contaminated IS 'Whether a training example holds it.';
COMMENT ON COLUMN evaluation_comparison.metric IS 'The metric.';
COMMENT ON COLUMN evaluation_comparison.base IS 'The base''s score; NULL for judge.';
COMMENT ON COLUMN evaluation_comparison.tuned IS 'The tuned student''s score; NULL for judge.';
COMMENT ON COLUMN evaluation_comparison.difference IS 'Tuned minus base; for judge 1, 0 or -1.';
COMMENT ON COLUMN evaluation_comparison.weight IS 'What a mean counts it by.';
COMMENT ON COLUMN evaluation_comparison.instruction IS 'The instruction.';
COMMENT ON COLUMN evaluation_comparison.input IS 'Its input.';
COMMENT ON COLUMN evaluation_comparison.reference_answers IS 'Good answers.';
COMMENT ON COLUMN evaluation_comparison.base_answer IS 'The base''s answer.';
COMMENT ON COLUMN evaluation_comparison.tuned_answer IS 'The tuned student''s answer.';

CREATE VIEW evaluation_summary AS
SELECT
  d.run_id,
  e.training_run,
  e.dataset,
  e.method,
  e.base_name,
  f.part,
  f.name AS file_name,
  d.metric,
  d.items,
  d.base,
  d.tuned,
  d.difference,
  d.low,
  d.high,
  CASE
    WHEN d.low <= 0 AND d.high >= 0 THEN 'no clear difference'
    WHEN (d.low > 0) <> (d.metric = 'nll') THEN 'better'
    ELSE 'worse'
  END AS tuned_is,
  e.serving
FROM evaluation_differences AS d
JOIN evaluations AS e USING (run_id)
JOIN evaluation_files AS f ON f.run_id = d.run_id AND f.file = d.file
WHERE d.group_name = 'all'
ORDER BY d.run_id, d.file, d.metric;
COMMENT ON VIEW evaluation_summary IS 'One row per evaluation, file and metric, over all items: for setting trainings and datasets side by side.';
COMMENT ON COLUMN evaluation_summary.run_id IS 'The evaluation.';
COMMENT ON COLUMN evaluation_summary.training_run IS 'The training run.';
COMMENT ON COLUMN evaluation_summary.dataset IS 'What it was trained on.';
COMMENT ON COLUMN evaluation_summary.method IS 'The method of fine-tuning.';
COMMENT ON COLUMN evaluation_summary.base_name IS 'The base model.';
COMMENT ON COLUMN evaluation_summary.part IS 'held_out, tasks, user_oriented or benchmark.';
COMMENT ON COLUMN evaluation_summary.file_name IS 'The evaluation file.';
COMMENT ON COLUMN evaluation_summary.metric IS 'The metric.';
COMMENT ON COLUMN evaluation_summary.items IS 'Items compared.';
COMMENT ON COLUMN evaluation_summary.base IS 'The base''s mean.';
COMMENT ON COLUMN evaluation_summary.tuned IS 'The tuned student''s.';
COMMENT ON COLUMN evaluation_summary.difference IS 'Tuned minus base.';
COMMENT ON COLUMN evaluation_summary.low IS 'Lower end of its interval.';
COMMENT ON COLUMN evaluation_summary.high IS 'Upper end.';
COMMENT ON COLUMN evaluation_summary.tuned_is IS 'better, worse, or no clear difference where the interval holds zero.';
COMMENT ON COLUMN evaluation_summary.serving IS 'How the students were served.';
