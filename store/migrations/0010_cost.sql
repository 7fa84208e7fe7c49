-- Prices of single models, models of single stages, and what an accepted instruction costs.
CREATE OR REPLACE VIEW teacher_usage AS
WITH asked AS (
  SELECT
    run_id,
    accepted,
    manifest ->> '$.model' AS model,
    json_transform(manifest -> '$.stage_models', '"MAP(VARCHAR, STRUCT(model VARCHAR))"') AS stage_models,
    coalesce((manifest -> '$.config.prices.prompt')::DOUBLE, 0) AS prompt,
    (manifest -> '$.config.prices.cached_prompt')::DOUBLE AS cached_prompt,
    coalesce((manifest -> '$.config.prices.completion')::DOUBLE, 0) AS completion,
    json_transform(
      manifest -> '$.config.prices.models',
      '"MAP(VARCHAR, STRUCT(prompt DOUBLE, cached_prompt DOUBLE, completion DOUBLE))"'
    ) AS models
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
),
modelled AS (
  SELECT
    used.*,
    accepted,
    coalesce(stage_models[stage].model, asked.model) AS model,
    prompt,
    cached_prompt,
    completion,
    models
  FROM used
  JOIN asked USING (run_id)
),
priced AS (
  SELECT
    * EXCLUDE (prompt, cached_prompt, completion, models),
    coalesce(
      models[model],
      CASE
        WHEN greatest(prompt, completion, coalesce(cached_prompt, 0)) > 0
        THEN {'prompt': prompt, 'cached_prompt': cached_prompt, 'completion': completion}
      END
    ) AS price
  FROM modelled
),
counted AS (
  SELECT
    *,
    (
      (prompt_tokens - cached_tokens) * coalesce(price.prompt, 0)
      + cached_tokens * coalesce(price.cached_prompt, price.prompt, 0)
      + completion_tokens * coalesce(price.completion, 0)
    ) / 1e6 AS money
  FROM priced
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
  CASE WHEN price IS NOT NULL THEN money END AS cost,
  latencies[1] AS latency_p50_s,
  latencies[2] AS latency_p90_s,
  latencies[3] AS latency_p99_s,
  first_answered_at,
  last_answered_at,
  model,
  cached_tokens / nullif(prompt_tokens, 0) AS cached_share,
  CASE WHEN price IS NOT NULL THEN money / nullif(accepted, 0) END AS cost_per_accepted
FROM counted;
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
COMMENT ON COLUMN teacher_usage.cost IS 'Money for these tokens, in the currency of the prices in the run''s configuration (per million tokens; the model''s own where it has any; cached ones at the price of others where they have none of their own); NULL where no price is set.';
COMMENT ON COLUMN teacher_usage.latency_p50_s IS 'Median of the seconds from sending to the answer.';
COMMENT ON COLUMN teacher_usage.latency_p90_s IS 'Nine of ten took at most this long, in seconds.';
COMMENT ON COLUMN teacher_usage.latency_p99_s IS 'All but one in a hundred took at most this long, in seconds.';
COMMENT ON COLUMN teacher_usage.first_answered_at IS 'When the first outcome was journaled (UTC).';
COMMENT ON COLUMN teacher_usage.last_answered_at IS 'When the last one was (UTC).';
COMMENT ON COLUMN teacher_usage.model IS 'The model that the stage asked, as the run named it.';
COMMENT ON COLUMN teacher_usage.cached_share IS 'Cached tokens over prompt tokens: how often the endpoint''s prefix cache was hit; 0 also where it does not report hits.';
COMMENT ON COLUMN teacher_usage.cost_per_accepted IS 'The cost for each accepted instruction of the run; NULL where there is none, or no price.';
