-- What do the instructions ask for: the 20 most frequent verbs of each run, each with its 4 most frequent objects?
WITH verbs AS (
  SELECT run_id, verb, sum(count) AS verb_count
  FROM verb_noun_pairs
  WHERE method = 'mended'
  GROUP BY run_id, verb
  QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY verb_count DESC, verb) <= 20
)
SELECT run_id, verb, verb_count, noun, count, share, example
FROM verb_noun_pairs
JOIN verbs USING (run_id, verb)
WHERE method = 'mended'
QUALIFY row_number() OVER (PARTITION BY run_id, verb ORDER BY count DESC, noun) <= 4
ORDER BY run_id, verb_count DESC, verb, count DESC, noun;
