-- Which texts keep most others out as near copies: what does the teacher say again and again?
SELECT
  blocker_text,
  blocker_source,
  count(*) AS kept_out,
  count(DISTINCT run_id) AS runs,
  round(avg(score), 3) AS mean_score,
  any_value(text) AS example
FROM instructions
WHERE blocker_text IS NOT NULL
GROUP BY blocker_text, blocker_source
ORDER BY kept_out DESC, blocker_text
LIMIT 20;
