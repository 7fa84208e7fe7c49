-- Curation: what each step of a recipe kept out, and why. Steps and counts are in the manifests of
-- dataset versions; rejected instances are rows of the version, with state rejected.

ALTER TABLE instances ADD COLUMN step INTEGER;
ALTER TABLE instances ADD COLUMN score DOUBLE;
ALTER TABLE instances ADD COLUMN evidence VARCHAR;
ALTER TABLE instances ADD COLUMN scores JSON;
COMMENT ON COLUMN instances.state IS 'accepted, rejected or surplus; of a dataset version, rejected is what curation kept out.';
COMMENT ON COLUMN instances.reason IS 'Why it was rejected.';
COMMENT ON COLUMN instances.step IS 'Curation: the step that rejected it, as curation_steps.step; NULL where none did.';
COMMENT ON COLUMN instances.score IS 'Curation: the number by which it was rejected, such as a similarity or a length; NULL where there is none.';
COMMENT ON COLUMN instances.evidence IS 'Curation: what it was rejected by, such as the text that it is too near to.';
COMMENT ON COLUMN instances.scores IS 'Curation: what steps have measured of it, by the score''s name, such as {"ifd": 0.71}; NULL where nothing was.';

CREATE VIEW curation_steps AS
WITH steps AS (
  SELECT run_id, unnest(json_extract(manifest, '$.curation.steps[*]')) AS step
  FROM runs
  WHERE kind = 'dataset'
)
SELECT
  run_id AS dataset,
  (step ->> '$.number')::INTEGER AS step,
  step ->> '$.step' AS name,
  step -> '$.parameters' AS parameters,
  (step ->> '$.instructions_in')::BIGINT AS instructions_in,
  (step ->> '$.instances_in')::BIGINT AS instances_in,
  (step ->> '$.instructions_out')::BIGINT AS instructions_out,
  (step ->> '$.instances_out')::BIGINT AS instances_out,
  step -> '$.reasons' AS reasons,
  step -> '$.details' AS details
FROM steps
ORDER BY dataset, step;
COMMENT ON VIEW curation_steps IS 'What each step of a recipe left, per dataset version that was curated.';
COMMENT ON COLUMN curation_steps.dataset IS 'The dataset version.';
COMMENT ON COLUMN curation_steps.step IS 'Number of the step in the recipe, from 1.';
COMMENT ON COLUMN curation_steps.name IS 'Its name, such as near_duplicates.';
COMMENT ON COLUMN curation_steps.parameters IS 'Its parameters, defaults included.';
COMMENT ON COLUMN curation_steps.instructions_in IS 'Instructions of which an instance came to the step.';
COMMENT ON COLUMN curation_steps.instances_in IS 'Instances that came to it.';
COMMENT ON COLUMN curation_steps.instructions_out IS 'Instructions of which it left an instance.';
COMMENT ON COLUMN curation_steps.instances_out IS 'Instances that it left.';
COMMENT ON COLUMN curation_steps.reasons IS 'Instances that it rejected, by reason.';
COMMENT ON COLUMN curation_steps.details IS 'What else it found, such as the evaluation files that decontamination looked at.';

CREATE VIEW curation_rejects AS
SELECT
  instances.run_id AS dataset,
  instances.step,
  curation_steps.name,
  instances.reason,
  instances.score,
  instances.evidence,
  instructions.text AS instruction,
  instances.input,
  instances.output,
  instances.scores,
  instances.id AS instance_id
FROM instances
JOIN instructions ON instructions.id = instances.instruction_id
JOIN curation_steps ON curation_steps.dataset = instances.run_id AND curation_steps.step = instances.step
WHERE instances.state = 'rejected'
ORDER BY dataset, instances.step, instances.position, instances.index;
COMMENT ON VIEW curation_rejects IS 'Every instance that curation kept out of a dataset version, with the step, the reason and the score.';
COMMENT ON COLUMN curation_rejects.dataset IS 'The dataset version.';
COMMENT ON COLUMN curation_rejects.step IS 'Number of the step that rejected it.';
COMMENT ON COLUMN curation_rejects.name IS 'Name of that step.';
COMMENT ON COLUMN curation_rejects.reason IS 'Why.';
COMMENT ON COLUMN curation_rejects.score IS 'The number that decided, if one did.';
COMMENT ON COLUMN curation_rejects.evidence IS 'What decided, such as the text that it is too near to.';
COMMENT ON COLUMN curation_rejects.instruction IS 'Its instruction.';
COMMENT ON COLUMN curation_rejects.input IS 'Its input.';
COMMENT ON COLUMN curation_rejects.output IS 'Its output.';
COMMENT ON COLUMN curation_rejects.scores IS 'What earlier steps had measured of it.';
COMMENT ON COLUMN curation_rejects.instance_id IS 'Its row in instances.';

CREATE VIEW curation_contamination AS
WITH files AS (
  SELECT dataset, step, unnest(json_extract(details, '$.files[*]')) AS file
  FROM curation_steps
  WHERE name = 'decontamination'
)
SELECT
  dataset,
  step,
  file ->> '$.file' AS file,
  file ->> '$.sha256' AS sha256,
  (file ->> '$.items')::BIGINT AS items,
  (file ->> '$.items_found')::BIGINT AS items_found,
  (file ->> '$.share_found')::DOUBLE AS share_found,
  (file ->> '$.rejected')::BIGINT AS rejected,
  (file ->> '$.shared_ngram')::BIGINT AS by_shared_ngram,
  (file ->> '$.overlap')::BIGINT AS by_overlap,
  (file ->> '$.whole_prompt')::BIGINT AS by_whole_prompt
FROM files
ORDER BY dataset, step, file;
COMMENT ON VIEW curation_contamination IS 'What decontamination found of each evaluation file in the sources of a dataset version; none of it is in the version.';
COMMENT ON COLUMN curation_contamination.dataset IS 'The dataset version.';
COMMENT ON COLUMN curation_contamination.step IS 'Number of the step.';
COMMENT ON COLUMN curation_contamination.file IS 'The evaluation file; bundled ones come with evoloom.';
COMMENT ON COLUMN curation_contamination.sha256 IS 'SHA-256 of its content.';
COMMENT ON COLUMN curation_contamination.items IS 'Items in it.';
COMMENT ON COLUMN curation_contamination.items_found IS 'Items that an instance held.';
COMMENT ON COLUMN curation_contamination.share_found IS 'Their share, 0 to 1; Tülu 3 calls a training set contaminated from 0.02 on.';
COMMENT ON COLUMN curation_contamination.rejected IS 'Instances that held one.';
COMMENT ON COLUMN curation_contamination.by_shared_ngram IS 'Of these, by words shared in a row (13).';
COMMENT ON COLUMN curation_contamination.by_overlap IS 'Of these, by the share of the prompt that overlaps (8 words in a row, more than half).';
COMMENT ON COLUMN curation_contamination.by_whole_prompt IS 'Of these, by a prompt too short for both rules.';
