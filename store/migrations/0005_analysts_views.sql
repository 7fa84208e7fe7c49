-- The questions that analysts ask, as views: docs/STORE.md shows them with example queries.
--
-- A run's instructions are counted by distinct text, since the same words twice are no diversity.
-- Admission order is what an evolution started from, then ascending (generation, item); packed into
-- one number because comparing lists costs ten times as much.

CREATE VIEW dataset_statistics AS
WITH texts AS (
  SELECT
    run_id,
    text_id,
    any_value(words) AS words,
    -- The first that knows decides: arg_min passes over NULL.
    arg_min(
      is_classification,
      ((stage <> 'source')::BIGINT << 62) + (generation::BIGINT << 31) + coalesce(item, 0)
    ) AS is_classification
  FROM instructions
  WHERE state = 'accepted'
  GROUP BY run_id, text_id
),
instruction_counts AS (
  SELECT
    run_id,
    count(*) AS instructions,
    count(*) FILTER (is_classification) AS classification,
    count(*) FILTER (NOT is_classification) AS not_classification,
    count(*) FILTER (is_classification IS NULL) AS unknown,
    avg(words) AS mean_instruction_words
  FROM texts
  GROUP BY run_id
),
instance_counts AS (
  SELECT
    run_id,
    count(*) AS instances,
    count(*) FILTER (input_words = 0) AS empty_inputs,
    count(*) FILTER (is_duplicate) AS duplicates,
    avg(input_words) FILTER (input_words > 0) AS mean_input_words,
    avg(output_words) AS mean_output_words
  FROM instances
  WHERE state = 'accepted'
  GROUP BY run_id
)
SELECT
  runs.run_id,
  coalesce(instructions, 0) AS instructions,
  coalesce(classification, 0) AS classification,
  coalesce(not_classification, 0) AS not_classification,
  coalesce(unknown, 0) AS unknown,
  coalesce(instances, 0) AS instances,
  coalesce(duplicates, 0) AS duplicates,
  coalesce(empty_inputs, 0) AS empty_inputs,
  empty_inputs / instances AS empty_input_share,
  mean_instruction_words,
  mean_input_words,
  mean_output_words
FROM runs
LEFT JOIN instruction_counts USING (run_id)
LEFT JOIN instance_counts USING (run_id)
ORDER BY runs.run_id;
COMMENT ON VIEW dataset_statistics IS 'The rows of the Self-Instruct paper''s Table 1 for every run, import and dataset version: what is accepted, instructions by distinct text, instances as rows. A word is what white space separates.';
COMMENT ON COLUMN dataset_statistics.run_id IS 'The run, import or dataset version.';
COMMENT ON COLUMN dataset_statistics.instructions IS 'Distinct texts of accepted instructions.';
COMMENT ON COLUMN dataset_statistics.classification IS 'How many of them are classification tasks; where rows of one text differ, the first that knows decides.';
COMMENT ON COLUMN dataset_statistics.not_classification IS 'How many are none.';
COMMENT ON COLUMN dataset_statistics.unknown IS 'Of how many nobody said; the three add up to instructions.';
COMMENT ON COLUMN dataset_statistics.instances IS 'Accepted instances; one that occurs twice counts twice.';
COMMENT ON COLUMN dataset_statistics.duplicates IS 'How many of them an earlier row of an imported file equals.';
COMMENT ON COLUMN dataset_statistics.empty_inputs IS 'Accepted instances without an input, or with one of white space alone.';
COMMENT ON COLUMN dataset_statistics.empty_input_share IS 'Their share of the instances, 0 to 1; NULL where there are none.';
COMMENT ON COLUMN dataset_statistics.mean_instruction_words IS 'Mean length of the distinct instructions in words.';
COMMENT ON COLUMN dataset_statistics.mean_input_words IS 'Mean length of the inputs that are not empty, in words.';
COMMENT ON COLUMN dataset_statistics.mean_output_words IS 'Mean length of the outputs in words.';

CREATE VIEW verb_noun_pairs AS
WITH texts AS MATERIALIZED (
  SELECT
    run_id,
    text_id,
    min(((stage <> 'source')::BIGINT << 62) + (generation::BIGINT << 31) + coalesce(item, 0)) AS place
  FROM instructions
  WHERE state = 'accepted'
  GROUP BY run_id, text_id
),
totals AS (
  SELECT run_id, count(*) AS texts
  FROM texts
  GROUP BY run_id
),
pairs AS (
  SELECT run_id, method, verb, noun, count(*) AS count, min(place) AS place
  FROM verb_nouns
  JOIN texts USING (text_id)
  WHERE
    verb IS NOT NULL
    AND noun IS NOT NULL
    AND parser_version = (
      SELECT arg_max(parser_version, (first_used_at, parser_version))
      FROM parsers
    )
  GROUP BY run_id, method, verb, noun
),
admitted AS (
  SELECT
    run_id,
    ((stage <> 'source')::BIGINT << 62) + (generation::BIGINT << 31) + coalesce(item, 0) AS place,
    text
  FROM instructions
  WHERE state = 'accepted'
)
SELECT run_id, method, verb, noun, count, count / texts AS share, text AS example
FROM pairs
JOIN totals USING (run_id)
JOIN admitted USING (run_id, place);
COMMENT ON VIEW verb_noun_pairs IS 'What the instructions of a run, import or dataset version ask for: verb and direct object, by the newest parser. Texts without a verb or without a noun (questions, for one) are in no pair, and a further verb of a text is not counted. Empty until `evoloom store analyse` has parsed the texts.';
COMMENT ON COLUMN verb_noun_pairs.run_id IS 'The run, import or dataset version.';
COMMENT ON COLUMN verb_noun_pairs.method IS 'mended, or published: the rule of the Self-Instruct paper.';
COMMENT ON COLUMN verb_noun_pairs.verb IS 'Lemma of the verb, with its particle if it has one (write_down).';
COMMENT ON COLUMN verb_noun_pairs.noun IS 'Lemma of the head of its direct object.';
COMMENT ON COLUMN verb_noun_pairs.count IS 'Distinct accepted instruction texts with this pair.';
COMMENT ON COLUMN verb_noun_pairs.share IS 'Their share of all distinct accepted instruction texts of the run, parsed or not, 0 to 1.';
COMMENT ON COLUMN verb_noun_pairs.example IS 'The first of these instructions in admission order.';

CREATE VIEW instruction_kinds AS
WITH texts AS (
  SELECT DISTINCT run_id, text_id
  FROM instructions
  WHERE state = 'accepted'
),
totals AS (
  SELECT run_id, count(*) AS texts
  FROM texts
  GROUP BY run_id
)
SELECT run_id, method, kind, question_word, count(*) AS count, count(*) / any_value(totals.texts) AS share
FROM texts
JOIN verb_nouns USING (text_id)
JOIN totals USING (run_id)
WHERE parser_version = (
  SELECT arg_max(parser_version, (first_used_at, parser_version))
  FROM parsers
)
GROUP BY run_id, method, kind, question_word
ORDER BY run_id, method, kind, count DESC, question_word;
COMMENT ON VIEW instruction_kinds IS 'How many instructions of a run, import or dataset version ask for something to be done, how many are questions (by question word), and how many could not be parsed, by the newest parser. Empty until `evoloom store analyse` has parsed the texts.';
COMMENT ON COLUMN instruction_kinds.run_id IS 'The run, import or dataset version.';
COMMENT ON COLUMN instruction_kinds.method IS 'mended, or published, which knows no questions.';
COMMENT ON COLUMN instruction_kinds.kind IS 'imperative, question or unparsed.';
COMMENT ON COLUMN instruction_kinds.question_word IS 'Of questions: what, how, why, when, where, which, who, whose or yes_no; NULL for the other kinds.';
COMMENT ON COLUMN instruction_kinds.count IS 'Distinct accepted instruction texts of this kind.';
COMMENT ON COLUMN instruction_kinds.share IS 'Their share of all distinct accepted instruction texts of the run, 0 to 1.';

CREATE VIEW novelty_distribution AS
WITH scored AS (
  SELECT run_id, pool_size, count(*) AS instructions
  FROM novelty_scores
  GROUP BY run_id, pool_size
),
counted AS (
  SELECT run_id, 'seed' AS against, least(floor(seed_score * 20), 19)::INTEGER AS bin, count(*) AS count
  FROM novelty_scores
  WHERE seed_score IS NOT NULL
  GROUP BY ALL
  UNION ALL
  SELECT run_id, 'pool', least(floor(pool_score * 20), 19)::INTEGER, count(*)
  FROM novelty_scores
  WHERE pool_score IS NOT NULL
  GROUP BY ALL
),
bins AS (
  SELECT
    runs.run_id,
    against,
    bin::INTEGER AS bin,
    -- Scores of a part, or within a smaller pool, would look like those of the whole.
    coalesce(scored.instructions, 0) = runs.accepted AS is_complete
  FROM runs
  CROSS JOIN (VALUES ('pool'), ('seed')) AS sides(against)
  CROSS JOIN range(20) AS numbers(bin)
  LEFT JOIN scored ON scored.run_id = runs.run_id AND scored.pool_size = runs.accepted
  WHERE runs.accepted > 0
)
SELECT
  run_id,
  against,
  bin / 20 AS score_from,
  (bin + 1) / 20 AS score_to,
  CASE WHEN is_complete THEN coalesce(count, 0) END AS count,
  CASE
    WHEN is_complete
    THEN coalesce(count, 0) / nullif(sum(count) OVER (PARTITION BY run_id, against), 0)
  END AS share
FROM bins
LEFT JOIN counted USING (run_id, against, bin)
ORDER BY run_id, against, bin;
COMMENT ON VIEW novelty_distribution IS 'How near the accepted instructions of a run are to the nearest seed, as in the Self-Instruct paper, and to the nearest other instruction of the run: 20 bins of 0.05 for each of the two. Counts are NULL until `evoloom store analyse` has scored all of them.';
COMMENT ON COLUMN novelty_distribution.run_id IS 'The run, import or dataset version.';
COMMENT ON COLUMN novelty_distribution.against IS 'seed: nearest seed task. pool: nearest other accepted instruction of the run.';
COMMENT ON COLUMN novelty_distribution.score_from IS 'Lower end of the bin, a best ROUGE-L F-measure, itself in the bin.';
COMMENT ON COLUMN novelty_distribution.score_to IS 'Upper end, not in the bin, except 1 in the last.';
COMMENT ON COLUMN novelty_distribution.count IS 'Accepted instructions in the bin; NULL while not all of the run are scored. All 0 where there is nothing to compare with, as in an import, which has no seeds.';
COMMENT ON COLUMN novelty_distribution.share IS 'Their share of the run''s scored instructions, 0 to 1; NULL where there are none.';

CREATE VIEW teacher_usage AS
WITH prices AS (
  SELECT
    run_id,
    coalesce((manifest -> '$.config.prices.prompt')::DOUBLE, 0) AS prompt,
    (manifest -> '$.config.prices.cached_prompt')::DOUBLE AS cached_prompt,
    coalesce((manifest -> '$.config.prices.completion')::DOUBLE, 0) AS completion
  FROM runs
),
used AS (
  SELECT
    run_id,
    stage,
    count(*) AS requests,
    count(text) AS answers,
    count(*) - count(text) AS refusals,
    count(text) FILTER (prompt_tokens IS NULL) AS without_usage,
    coalesce(sum(prompt_tokens), 0)::BIGINT AS prompt_tokens,
    coalesce(sum(cached_tokens), 0)::BIGINT AS cached_tokens,
    coalesce(sum(completion_tokens), 0)::BIGINT AS completion_tokens,
    quantile_cont(latency_s, [0.5, 0.9, 0.99]) AS latencies,
    min(answered_at) AS first_answered_at,
    max(answered_at) AS last_answered_at
  FROM completions
  GROUP BY run_id, stage
)
SELECT
  run_id,
  stage,
  requests,
  answers,
  refusals,
  without_usage,
  prompt_tokens,
  cached_tokens,
  completion_tokens,
  CASE
    WHEN greatest(prices.prompt, prices.completion, coalesce(prices.cached_prompt, 0)) > 0
    THEN (
      (prompt_tokens - cached_tokens) * prices.prompt
      + cached_tokens * coalesce(prices.cached_prompt, prices.prompt)
      + completion_tokens * prices.completion
    ) / 1e6
  END AS cost,
  latencies[1] AS latency_p50_s,
  latencies[2] AS latency_p90_s,
  latencies[3] AS latency_p99_s,
  first_answered_at,
  last_answered_at
FROM used
JOIN prices USING (run_id)
ORDER BY run_id, first_answered_at, stage;
COMMENT ON VIEW teacher_usage IS 'What the teacher was asked, used and cost, per run and stage. Imports and dataset versions ask nobody and have no rows.';
COMMENT ON COLUMN teacher_usage.run_id IS 'The run.';
COMMENT ON COLUMN teacher_usage.stage IS 'The stage that asked.';
COMMENT ON COLUMN teacher_usage.requests IS 'Requests with an outcome: answers and refusals. A repeated send of the same request is not counted.';
COMMENT ON COLUMN teacher_usage.answers IS 'Requests that were answered with a text.';
COMMENT ON COLUMN teacher_usage.refusals IS 'Requests that were refused for good, such as for their length.';
COMMENT ON COLUMN teacher_usage.without_usage IS 'Answers that came without a count of tokens; they are in no sum.';
COMMENT ON COLUMN teacher_usage.prompt_tokens IS 'Tokens of the prompts as the endpoint counted, cached ones included.';
COMMENT ON COLUMN teacher_usage.cached_tokens IS 'How many of them came from the endpoint''s cache.';
COMMENT ON COLUMN teacher_usage.completion_tokens IS 'Tokens of the answers.';
COMMENT ON COLUMN teacher_usage.cost IS 'Money for these tokens, in the currency of the prices in the run''s configuration (per million tokens; cached ones at the price of others where they have none of their own); NULL where no price is set.';
COMMENT ON COLUMN teacher_usage.latency_p50_s IS 'Median of the seconds from sending to the answer.';
COMMENT ON COLUMN teacher_usage.latency_p90_s IS 'Nine of ten took at most this long, in seconds.';
COMMENT ON COLUMN teacher_usage.latency_p99_s IS 'All but one in a hundred took at most this long, in seconds.';
COMMENT ON COLUMN teacher_usage.first_answered_at IS 'When the first outcome was journaled (UTC).';
COMMENT ON COLUMN teacher_usage.last_answered_at IS 'When the last one was (UTC).';

CREATE VIEW length_distribution AS
WITH lengths AS (
  SELECT run_id, 'instruction' AS part, words, count(*) AS count
  FROM (
    SELECT run_id, any_value(words) AS words
    FROM instructions
    WHERE state = 'accepted'
    GROUP BY run_id, text_id
  )
  GROUP BY run_id, words
  UNION ALL
  SELECT run_id, 'input', input_words, count(*)
  FROM instances
  WHERE state = 'accepted'
  GROUP BY run_id, input_words
  UNION ALL
  SELECT run_id, 'output', output_words, count(*)
  FROM instances
  WHERE state = 'accepted'
  GROUP BY run_id, output_words
)
SELECT
  run_id,
  part,
  CASE WHEN words = 0 THEN 0 WHEN words > 200 THEN 201 ELSE (words - 1) // 5 * 5 + 1 END AS words_from,
  CASE WHEN words = 0 THEN 0 WHEN words > 200 THEN NULL ELSE (words - 1) // 5 * 5 + 5 END AS words_to,
  sum(count)::BIGINT AS count
FROM lengths
GROUP BY ALL
ORDER BY run_id, part, words_from;
COMMENT ON VIEW length_distribution IS 'Lengths in words of the accepted instructions (distinct texts), inputs and outputs, in bins of 5 words: 0 (empty) on its own, 1 to 5, 6 to 10, up to 200, and all that are longer. Bins with nothing in them have no row.';
COMMENT ON COLUMN length_distribution.run_id IS 'The run, import or dataset version.';
COMMENT ON COLUMN length_distribution.part IS 'instruction, input or output.';
COMMENT ON COLUMN length_distribution.words_from IS 'Fewest words in the bin.';
COMMENT ON COLUMN length_distribution.words_to IS 'Most words in the bin; NULL in the last, which has no end.';
COMMENT ON COLUMN length_distribution.count IS 'How many there are.';

CREATE VIEW datasets AS
SELECT
  run_id AS dataset,
  manifest ->> '$.name' AS name,
  manifest ->> '$.version' AS version,
  created_at,
  manifest ->> '$.content_hash' AS content_hash,
  (manifest ->> '$.instructions')::BIGINT AS instructions,
  (manifest ->> '$.instances')::BIGINT AS instances,
  coalesce((manifest -> '$.inputs')::VARCHAR[], []) AS inputs,
  manifest -> '$.recipe' AS recipe
FROM runs
WHERE kind = 'dataset'
ORDER BY name, created_at, dataset;
COMMENT ON VIEW datasets IS 'Dataset versions: named, immutable records of exactly which instances; their rows are under run_id = dataset.';
COMMENT ON COLUMN datasets.dataset IS 'Name and version, such as nightly@2026-11-21.1: the run_id of its rows.';
COMMENT ON COLUMN datasets.name IS 'The dataset''s name.';
COMMENT ON COLUMN datasets.version IS 'Its version: the day it was made (UTC) and the number on that day.';
COMMENT ON COLUMN datasets.created_at IS 'When it was made (UTC).';
COMMENT ON COLUMN datasets.content_hash IS 'SHA-256 of its rows: equal hashes, equal data.';
COMMENT ON COLUMN datasets.instructions IS 'Instructions in it.';
COMMENT ON COLUMN datasets.instances IS 'Instances in it.';
COMMENT ON COLUMN datasets.inputs IS 'The runs, imports and dataset versions that it was made from.';
COMMENT ON COLUMN datasets.recipe IS 'How it was made from them.';

-- As before, but counted once instead of seven times.
CREATE OR REPLACE VIEW funnel AS
WITH completion_counts AS (
  SELECT run_id, stage, state, reason, count(*) AS n
  FROM completions
  GROUP BY ALL
),
instruction_counts AS (
  SELECT run_id, stage, state, reason, is_classification, count(*) AS n
  FROM instructions
  GROUP BY ALL
),
instance_counts AS (
  SELECT run_id, stage, state, reason, count(*) AS n
  FROM instances
  GROUP BY ALL
),
counted AS (
  SELECT run_id, 1 AS rank, 'completions' AS subject, stage, 'requested' AS outcome, NULL AS reason, n
  FROM completion_counts
  UNION ALL
  SELECT
    run_id,
    CASE state WHEN 'used' THEN 2 WHEN 'discarded' THEN 3 ELSE 4 END,
    'completions', stage, state, reason, n
  FROM completion_counts
  UNION ALL
  SELECT run_id, 11, 'instructions', stage, 'parsed', NULL, n
  FROM instruction_counts
  UNION ALL
  SELECT run_id, 12, 'instructions', stage, 'rejected', reason, n
  FROM instruction_counts
  WHERE state = 'rejected'
  UNION ALL
  SELECT run_id, 13, 'instructions', stage, 'admitted', NULL, n
  FROM instruction_counts
  WHERE state <> 'rejected'
  UNION ALL
  SELECT
    run_id,
    CASE is_classification WHEN TRUE THEN 14 WHEN FALSE THEN 15 ELSE 16 END,
    'instructions', stage,
    CASE is_classification
      WHEN TRUE THEN 'classification' WHEN FALSE THEN 'not_classification' ELSE 'unclassified'
    END,
    NULL, n
  FROM instruction_counts
  WHERE state <> 'rejected'
  UNION ALL
  SELECT
    run_id,
    CASE state
      WHEN 'pending' THEN 17 WHEN 'left_out' THEN 18 WHEN 'without_instances' THEN 19
      WHEN 'surplus' THEN 20 ELSE 21
    END,
    'instructions', stage, state, reason, n
  FROM instruction_counts
  WHERE state <> 'rejected'
  UNION ALL
  SELECT run_id, 31, 'instances', stage, 'parsed', NULL, n
  FROM instance_counts
  UNION ALL
  SELECT
    run_id,
    CASE state WHEN 'rejected' THEN 32 WHEN 'surplus' THEN 33 ELSE 34 END,
    'instances', stage, state, reason, n
  FROM instance_counts
)
SELECT run_id, rank AS step, subject, stage, outcome, reason, sum(n)::BIGINT AS count
FROM counted
GROUP BY ALL
ORDER BY run_id, step, stage, count DESC, reason;
COMMENT ON VIEW funnel IS 'How many completions, instructions and instances came to which end, per run, stage and reason. Breakdowns (requested into used, discarded, surplus; parsed into rejected, admitted; admitted into its outcomes, and into classification or not) are rows beside their total. Of an import, parsed means read from the file; rejected lines have the reason they are bad for.';
COMMENT ON COLUMN funnel.run_id IS 'The run, import or dataset version.';
COMMENT ON COLUMN funnel.step IS 'Order of the rows, from request to accepted instance.';
COMMENT ON COLUMN funnel.subject IS 'What is counted: completions, instructions or instances.';
COMMENT ON COLUMN funnel.stage IS 'The stage that asked for the completion, or made the instruction; import or dataset in those.';
COMMENT ON COLUMN funnel.outcome IS 'What became of it.';
COMMENT ON COLUMN funnel.reason IS 'Why; NULL where the outcome says it all.';
COMMENT ON COLUMN funnel.count IS 'How many.';

-- Most instructions have no parent, and are their own root without being looked for in a tree.
CREATE OR REPLACE VIEW lineage AS
WITH RECURSIVE linked AS MATERIALIZED (
  SELECT
    id,
    parent_id,
    -- What is only taken from another run is not evolved.
    CASE WHEN stage IN ('source', 'dataset') THEN 0 ELSE 1 END AS step
  FROM instructions
  WHERE parent_id IS NOT NULL
),
tree AS (
  -- Below an instruction without a parent, or whose parent is not in this store: then the root is
  -- the instruction itself.
  SELECT
    coalesce(parent.id, linked.id) AS root_id,
    linked.id,
    CASE WHEN parent.id IS NULL THEN 0 ELSE linked.step END AS depth
  FROM linked
  LEFT JOIN instructions AS parent ON parent.id = linked.parent_id
  WHERE parent.parent_id IS NULL
  UNION ALL
  SELECT tree.root_id, child.id, tree.depth + child.step
  FROM tree
  JOIN linked AS child ON child.parent_id = tree.id
)
SELECT
  id AS root_id, id, parent_id, run_id, 0 AS depth, round, operator, state, reason, difficulty, text,
  NULL AS parent_text
FROM instructions
WHERE parent_id IS NULL
UNION ALL
SELECT
  tree.root_id,
  tree.id,
  child.parent_id,
  child.run_id,
  tree.depth,
  child.round,
  child.operator,
  child.state,
  child.reason,
  child.difficulty,
  child.text,
  parent.text AS parent_text
FROM tree
JOIN instructions AS child ON child.id = tree.id
LEFT JOIN instructions AS parent ON parent.id = child.parent_id;
COMMENT ON VIEW lineage IS 'Every instruction with the root it descends from, over all runs, imports and dataset versions; eliminated children are in it too, with their reason.';
COMMENT ON COLUMN lineage.root_id IS 'The instruction at the root of its tree; its own id where it has no parent in this store.';
COMMENT ON COLUMN lineage.id IS 'The instruction.';
COMMENT ON COLUMN lineage.parent_id IS 'Its parent, which may be of another run; NULL where it has none.';
COMMENT ON COLUMN lineage.run_id IS 'The run.';
COMMENT ON COLUMN lineage.depth IS 'Evolutions between the root and it; being taken into an evolution or a dataset version is none.';
COMMENT ON COLUMN lineage.round IS 'The round that made it, from 0.';
COMMENT ON COLUMN lineage.operator IS 'The operator that made it.';
COMMENT ON COLUMN lineage.state IS 'What became of it.';
COMMENT ON COLUMN lineage.reason IS 'Why, where it was eliminated.';
COMMENT ON COLUMN lineage.difficulty IS 'Its rating from 1 to 10, if there is one.';
COMMENT ON COLUMN lineage.text IS 'Its text.';
COMMENT ON COLUMN lineage.parent_text IS 'Its parent''s text.';
