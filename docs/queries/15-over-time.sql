-- How do the nights compare: accepted, acceptance rate and mean lengths of each day's runs?
SELECT
  date_trunc('day', runs.created_at)::DATE AS day,
  runs.kind,
  count(*) AS runs,
  sum(statistics.instructions)::BIGINT AS instructions,
  round(100 * sum(statistics.instructions) / nullif(sum(parsed.count), 0), 1) AS percent_of_parsed,
  round(avg(statistics.mean_instruction_words), 1) AS mean_instruction_words,
  round(avg(statistics.mean_output_words), 1) AS mean_output_words
FROM runs
JOIN dataset_statistics AS statistics USING (run_id)
LEFT JOIN (
  SELECT run_id, sum(count) AS count
  FROM funnel
  WHERE subject = 'instructions' AND outcome = 'parsed'
  GROUP BY run_id
) AS parsed USING (run_id)
GROUP BY ALL
ORDER BY day DESC, runs.kind;
