-- How evenly are the verbs spread? More bits mean more variety; perplexity is the number of verbs that would be as varied if all were equally frequent.
WITH verbs AS (
  SELECT run_id, method, verb, sum(count) AS n, count(*) AS nouns
  FROM verb_noun_pairs
  GROUP BY ALL
),
shares AS (
  SELECT *, n / sum(n) OVER (PARTITION BY run_id, method) AS p
  FROM verbs
)
SELECT
  run_id,
  method,
  count(*) AS verbs,
  sum(nouns)::BIGINT AS pairs,
  sum(n)::BIGINT AS instructions,
  round(-sum(p * log2(p)), 3) AS entropy_bits,
  round(pow(2, -sum(p * log2(p))), 1) AS perplexity
FROM shares
GROUP BY ALL
ORDER BY run_id, method;
