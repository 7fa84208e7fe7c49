-- How does our data compare with Table 1 of the Self-Instruct paper?
SELECT * EXCLUDE (duplicates, empty_inputs)
FROM dataset_statistics
WHERE instructions > 0
UNION ALL BY NAME
SELECT
  'Self-Instruct (paper)' AS run_id,
  52445 AS instructions,
  11584 AS classification,
  40861 AS not_classification,
  0 AS unknown,
  82439 AS instances,
  0.435 AS empty_input_share,
  15.9 AS mean_instruction_words,
  12.7 AS mean_input_words,
  18.9 AS mean_output_words;
