-- What is each dataset version made of: how many instructions from which run?
SELECT
  datasets.dataset,
  datasets.created_at,
  source.run_id AS taken_from,
  runs.kind,
  count(*) AS instructions,
  round(100 * count(*) / any_value(datasets.instructions), 1) AS percent
FROM datasets
JOIN instructions AS row ON row.run_id = datasets.dataset AND row.state = 'accepted'
JOIN instructions AS source ON source.id = row.parent_id
JOIN runs ON runs.run_id = source.run_id
GROUP BY ALL
ORDER BY datasets.created_at DESC, instructions DESC;
