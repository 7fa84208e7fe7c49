-- How did the deepest evolved instruction come to be, step by step from its root?
WITH deepest AS (
  SELECT root_id
  FROM lineage
  WHERE state = 'accepted'
  ORDER BY depth DESC, root_id
  LIMIT 1
)
SELECT depth, run_id, operator, state, reason, text
FROM lineage
WHERE root_id IN (SELECT root_id FROM deepest)
ORDER BY depth, parent_id IS NOT NULL, run_id, operator NULLS FIRST, text;
