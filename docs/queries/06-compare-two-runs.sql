-- Which verb-noun pairs does the newest run have more of, and which fewer, than the one before it?
WITH newest AS (
  SELECT run_id, row_number() OVER (ORDER BY created_at DESC, run_id) AS place
  FROM runs
  WHERE run_id IN (SELECT run_id FROM verb_noun_pairs)
),
pairs AS (
  SELECT place, verb, noun, share
  FROM verb_noun_pairs
  JOIN newest USING (run_id)
  WHERE place <= 2 AND method = 'mended'
)
SELECT
  verb,
  noun,
  coalesce(any_value(share) FILTER (place = 1), 0) AS newest,
  coalesce(any_value(share) FILTER (place = 2), 0) AS before,
  newest - before AS difference
FROM pairs
GROUP BY verb, noun
ORDER BY abs(difference) DESC, verb, noun
LIMIT 20;
