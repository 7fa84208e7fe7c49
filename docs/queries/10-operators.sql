-- Which operator's children survive, round by round, and do they get longer?
SELECT
  child.run_id,
  child.round,
  child.operator,
  count(*) AS evolutions,
  round(100 * avg((child.state = 'accepted')::INTEGER), 1) AS percent_accepted,
  round(avg(child.words - parent.words) FILTER (child.state = 'accepted'), 1) AS mean_added_words,
  mode(child.reason) AS most_frequent_reason
FROM instructions AS child
JOIN instructions AS parent ON parent.id = child.parent_id
WHERE child.stage = 'evolve'
GROUP BY ALL
ORDER BY child.run_id, child.round, child.operator;
