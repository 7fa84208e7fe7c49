-- What was wrong with the rows of imported files, with an example of each?
SELECT
  run_id,
  state,
  reason,
  count(*) AS rows,
  min(origin) AS for_example,
  arg_min(evidence, origin) AS evidence
FROM instructions
WHERE stage = 'import' AND reason IS NOT NULL
GROUP BY ALL
ORDER BY run_id, rows DESC, reason;
