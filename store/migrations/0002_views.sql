-- Views over the projection. `store.run_rows` computes the same funnel from a run directory; a test
-- holds the two together.

CREATE VIEW shot_texts AS
SELECT
  shots.run_id,
  shots.completion_id,
  shots.slot,
  shots.source,
  shots.reference,
  coalesce(seed_tasks.instruction, instructions.text) AS text
FROM shots
LEFT JOIN seed_tasks
  ON shots.source = 'seed'
  AND seed_tasks.run_id = shots.run_id
  AND seed_tasks.seed_id = shots.reference
LEFT JOIN instructions
  ON shots.source = 'machine'
  AND instructions.run_id = shots.run_id
  AND array_to_string(instructions.position, '.') = shots.reference;
COMMENT ON VIEW shot_texts IS 'The shots of every generation prompt with the instruction that was shown.';
COMMENT ON COLUMN shot_texts.run_id IS 'The run.';
COMMENT ON COLUMN shot_texts.completion_id IS 'The completion whose prompt it was.';
COMMENT ON COLUMN shot_texts.slot IS 'Its place in the prompt, from 0.';
COMMENT ON COLUMN shot_texts.source IS 'seed or machine.';
COMMENT ON COLUMN shot_texts.reference IS 'A seed''s id, or the position g.i of an instruction of this run.';
COMMENT ON COLUMN shot_texts.text IS 'The instruction shown.';

CREATE VIEW funnel AS
WITH counted AS (
  SELECT run_id, 1 AS rank, 'completions' AS subject, stage, 'requested' AS outcome, NULL AS reason
  FROM completions
  UNION ALL
  SELECT
    run_id,
    CASE state WHEN 'used' THEN 2 WHEN 'discarded' THEN 3 ELSE 4 END,
    'completions', stage, state, reason
  FROM completions
  UNION ALL
  SELECT run_id, 11, 'instructions', stage, 'parsed', NULL
  FROM instructions
  UNION ALL
  SELECT run_id, 12, 'instructions', stage, 'rejected', reason
  FROM instructions
  WHERE state = 'rejected'
  UNION ALL
  SELECT run_id, 13, 'instructions', stage, 'admitted', NULL
  FROM instructions
  WHERE state <> 'rejected'
  UNION ALL
  SELECT
    run_id,
    CASE is_classification WHEN TRUE THEN 14 WHEN FALSE THEN 15 ELSE 16 END,
    'instructions', stage,
    CASE is_classification
      WHEN TRUE THEN 'classification' WHEN FALSE THEN 'not_classification' ELSE 'unclassified'
    END,
    NULL
  FROM instructions
  WHERE state <> 'rejected'
  UNION ALL
  SELECT
    run_id,
    CASE state
      WHEN 'pending' THEN 17 WHEN 'left_out' THEN 18 WHEN 'without_instances' THEN 19
      WHEN 'surplus' THEN 20 ELSE 21
    END,
    'instructions', stage, state, reason
  FROM instructions
  WHERE state <> 'rejected'
  UNION ALL
  SELECT run_id, 31, 'instances', stage, 'parsed', NULL
  FROM instances
  UNION ALL
  SELECT
    run_id,
    CASE state WHEN 'rejected' THEN 32 WHEN 'surplus' THEN 33 ELSE 34 END,
    'instances', stage, state, reason
  FROM instances
)
SELECT run_id, rank AS step, subject, stage, outcome, reason, count(*) AS count
FROM counted
GROUP BY ALL
ORDER BY run_id, step, stage, count DESC, reason;
COMMENT ON VIEW funnel IS 'How many completions, instructions and instances came to which end, per run, stage and reason. Breakdowns (requested into used, discarded, surplus; parsed into rejected, admitted; admitted into its outcomes, and into classification or not) are rows beside their total.';
COMMENT ON COLUMN funnel.run_id IS 'The run.';
COMMENT ON COLUMN funnel.step IS 'Order of the rows, from request to accepted instance.';
COMMENT ON COLUMN funnel.subject IS 'What is counted: completions, instructions or instances.';
COMMENT ON COLUMN funnel.stage IS 'The stage that asked for the completion, or made the instruction.';
COMMENT ON COLUMN funnel.outcome IS 'What became of it.';
COMMENT ON COLUMN funnel.reason IS 'Why; NULL where the outcome says it all.';
COMMENT ON COLUMN funnel.count IS 'How many.';
