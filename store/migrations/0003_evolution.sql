-- Evolution: difficulty ratings, lineage as rows, counts by round and operator.

ALTER TABLE instructions ADD COLUMN difficulty INTEGER;
COMMENT ON COLUMN instructions.difficulty IS 'Difficulty from 1 to 10 as the teacher rated it; NULL where nobody asked.';
COMMENT ON COLUMN instructions.parent IS 'Evolution: the parent''s position, or source:NUMBER for a source instruction; of a source instruction that comes from a run, RUN STAGE/POSITION.';
COMMENT ON COLUMN instructions.parent_id IS 'Evolution: id of the parent''s row, which may be of another run.';

CREATE VIEW lineage AS
WITH RECURSIVE tree AS (
  SELECT child.id AS root_id, child.id, child.run_id, 0 AS depth
  FROM instructions AS child
  LEFT JOIN instructions AS parent ON parent.id = child.parent_id
  WHERE parent.id IS NULL
  UNION ALL
  SELECT
    tree.root_id, child.id, child.run_id,
    tree.depth + CASE child.stage WHEN 'source' THEN 0 ELSE 1 END
  FROM tree
  JOIN instructions AS child ON child.parent_id = tree.id
)
SELECT
  tree.root_id,
  tree.id,
  child.parent_id,
  tree.run_id,
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
COMMENT ON VIEW lineage IS 'Every instruction with the root it descends from; eliminated children are in it too, with their reason.';
COMMENT ON COLUMN lineage.root_id IS 'The instruction at the root of its tree; its own id where it has no parent.';
COMMENT ON COLUMN lineage.id IS 'The instruction.';
COMMENT ON COLUMN lineage.parent_id IS 'Its parent; NULL where it has none.';
COMMENT ON COLUMN lineage.run_id IS 'The run.';
COMMENT ON COLUMN lineage.depth IS 'Evolutions between the root and it.';
COMMENT ON COLUMN lineage.round IS 'The round that made it, from 0.';
COMMENT ON COLUMN lineage.operator IS 'The operator that made it.';
COMMENT ON COLUMN lineage.state IS 'What became of it.';
COMMENT ON COLUMN lineage.reason IS 'Why, where it was eliminated.';
COMMENT ON COLUMN lineage.difficulty IS 'Its rating from 1 to 10, if there is one.';
COMMENT ON COLUMN lineage.text IS 'Its text.';
COMMENT ON COLUMN lineage.parent_text IS 'Its parent''s text.';

CREATE VIEW evolution AS
SELECT
  run_id,
  round,
  operator,
  count(*) AS evolutions,
  count(*) FILTER (state = 'accepted') AS accepted,
  count(*) FILTER (state <> 'accepted') AS eliminated,
  avg(difficulty) FILTER (state = 'accepted') AS mean_difficulty
FROM instructions
WHERE stage IN ('source', 'evolve')
GROUP BY ALL
ORDER BY run_id, round NULLS FIRST, operator;
COMMENT ON VIEW evolution IS 'Evolutions per run, round and operator, and what became of them; the source has neither round nor operator.';
COMMENT ON COLUMN evolution.run_id IS 'The run.';
COMMENT ON COLUMN evolution.round IS 'The round, from 0; NULL for the source.';
COMMENT ON COLUMN evolution.operator IS 'The operator; NULL for the source.';
COMMENT ON COLUMN evolution.evolutions IS 'Evolutions asked for, or source instructions.';
COMMENT ON COLUMN evolution.accepted IS 'How many joined the result pool.';
COMMENT ON COLUMN evolution.eliminated IS 'How many did not.';
COMMENT ON COLUMN evolution.mean_difficulty IS 'Mean rating of the accepted, 1 to 10; NULL where nobody asked.';

CREATE VIEW difficulty AS
SELECT run_id, round, difficulty, count(*) AS count
FROM instructions
WHERE difficulty IS NOT NULL AND state = 'accepted'
GROUP BY ALL
ORDER BY run_id, round NULLS FIRST, difficulty;
COMMENT ON VIEW difficulty IS 'Distribution of the difficulty ratings of accepted instructions, per run and round.';
COMMENT ON COLUMN difficulty.run_id IS 'The run.';
COMMENT ON COLUMN difficulty.round IS 'The round, from 0; NULL for the source.';
COMMENT ON COLUMN difficulty.difficulty IS 'The rating, 1 to 10.';
COMMENT ON COLUMN difficulty.count IS 'How many instructions have it.';
