-- How many instructions are questions, by question word, beside imperatives and what no rule could read?
SELECT
  run_id,
  kind,
  coalesce(question_word, '-') AS question_word,
  count,
  round(100 * share, 1) AS percent
FROM instruction_kinds
WHERE method = 'mended'
ORDER BY run_id, count DESC, kind, question_word;
