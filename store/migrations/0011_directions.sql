-- Benchmarks of which less is better.
COMMENT ON COLUMN evaluation_differences.notes IS 'Counts that belong to it, such as ties and inconsistent orders of a judge; lower_is_better where a benchmark says so of its metric.';
CREATE OR REPLACE VIEW evaluation_summary AS
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
    WHEN (d.low > 0)
      <> (d.metric = 'nll' OR coalesce((d.notes ->> '$.lower_is_better')::BOOLEAN, FALSE)) THEN 'better'
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
