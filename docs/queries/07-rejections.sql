-- What keeps instructions out, and is it more than it was? Percent of the parsed instructions of each run.
SELECT
  run_id,
  reason,
  count,
  round(100 * count / parsed, 1) AS percent
FROM funnel
JOIN (
  SELECT run_id, sum(count) AS parsed
  FROM funnel
  WHERE subject = 'instructions' AND outcome = 'parsed'
  GROUP BY run_id
) USING (run_id)
WHERE subject = 'instructions' AND outcome IN ('rejected', 'without_instances')
ORDER BY run_id, count DESC, reason;
