-- How near are the instructions to the seeds, and to each other? Percent of them by best ROUGE-L, side by side.
SELECT
  run_id,
  score_from,
  score_to,
  round(100 * any_value(share) FILTER (against = 'seed'), 1) AS percent_to_a_seed,
  round(100 * any_value(share) FILTER (against = 'pool'), 1) AS percent_to_another
FROM novelty_distribution
WHERE count IS NOT NULL
GROUP BY ALL
ORDER BY run_id, score_from;
