-- What did each run cost, in tokens and money, per accepted instruction?
SELECT
  run_id,
  runs.accepted,
  sum(requests)::BIGINT AS requests,
  sum(prompt_tokens)::BIGINT AS prompt_tokens,
  round(100 * sum(cached_tokens) / nullif(sum(prompt_tokens), 0), 1) AS percent_cached,
  sum(completion_tokens)::BIGINT AS completion_tokens,
  round(sum(prompt_tokens + completion_tokens) / nullif(runs.accepted, 0), 1) AS tokens_each,
  round(sum(cost), 4) AS cost,
  round(sum(cost) / nullif(runs.accepted, 0), 6) AS cost_each,
  round(max(latency_p99_s), 2) AS slowest_p99_s
FROM teacher_usage
JOIN runs USING (run_id)
GROUP BY run_id, runs.accepted
ORDER BY run_id;
