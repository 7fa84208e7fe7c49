-- What analysts ask for beyond one run's rows: imports, dataset versions, verb-noun pairs, novelty.
--
-- verb_nouns and novelty_scores are worked out from the texts after the rows are there
-- (`evoloom store analyse`). They are the only tables that no run directory holds; a rebuild takes
-- over what the old file had.

ALTER TABLE instructions ADD COLUMN origin VARCHAR;
ALTER TABLE instructions ADD COLUMN root_id VARCHAR;
ALTER TABLE instructions ADD COLUMN words INTEGER;
ALTER TABLE instructions ADD COLUMN text_id UUID;
COMMENT ON COLUMN instructions.parent IS 'The parent''s position, or source:NUMBER for a source instruction; of an instruction taken from a run (a source''s, a dataset version''s), RUN STAGE/POSITION.';
COMMENT ON COLUMN instructions.parent_id IS 'Id of the parent''s row, which may be of another run.';
COMMENT ON COLUMN instructions.origin IS 'Import: the file and the line it came from.';
COMMENT ON COLUMN instructions.root_id IS 'Dataset version: the instruction it descends from, as it was when the version was made; splits are by it.';
COMMENT ON COLUMN instructions.words IS 'Length in words: what white space separates.';
COMMENT ON COLUMN instructions.text_id IS 'MD5 of the text, as a UUID (16 bytes join and group much faster than 32 digits): equal texts have the same, in all runs. Joins verb_nouns.';

ALTER TABLE instances ADD COLUMN is_duplicate BOOLEAN;
ALTER TABLE instances ADD COLUMN system VARCHAR;
ALTER TABLE instances ADD COLUMN further_turns VARCHAR;
ALTER TABLE instances ADD COLUMN input_words INTEGER;
ALTER TABLE instances ADD COLUMN output_words INTEGER;
COMMENT ON COLUMN instances.is_duplicate IS 'Import: an earlier row of the file was the same.';
COMMENT ON COLUMN instances.system IS 'Import: the system message of a conversation; NULL where there is none.';
COMMENT ON COLUMN instances.further_turns IS 'Import: what a conversation says after the first answer, as JSON: a list of [user, assistant].';
COMMENT ON COLUMN instances.input_words IS 'Length of the input in words; 0 where it is empty.';
COMMENT ON COLUMN instances.output_words IS 'Length of the output in words.';

-- What is there already is derived again from the run directories by the next ingest.
DELETE FROM watermarks;

CREATE TABLE parsers (
  parser_version VARCHAR PRIMARY KEY,
  first_used_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE parsers IS 'Versions of the parser and of its rules that verb_nouns holds answers of; views show the latest.';
COMMENT ON COLUMN parsers.parser_version IS 'Model, spaCy and rules.';
COMMENT ON COLUMN parsers.first_used_at IS 'When it first parsed a text of this store (UTC).';

CREATE TABLE verb_nouns (
  text_id UUID NOT NULL,
  method VARCHAR NOT NULL,
  parser_version VARCHAR NOT NULL,
  kind VARCHAR NOT NULL,
  verb VARCHAR,
  noun VARCHAR,
  question_word VARCHAR,
  further STRUCT(verb VARCHAR, noun VARCHAR)[] NOT NULL,
  PRIMARY KEY (text_id, method, parser_version)
);
COMMENT ON TABLE verb_nouns IS 'What each distinct instruction text asks for; parsed once for each version of the parser. The view verb_noun_pairs counts it.';
COMMENT ON COLUMN verb_nouns.text_id IS 'The text, as instructions.text_id.';
COMMENT ON COLUMN verb_nouns.method IS 'mended, or published: the rule of the Self-Instruct paper.';
COMMENT ON COLUMN verb_nouns.parser_version IS 'The parser that answered.';
COMMENT ON COLUMN verb_nouns.kind IS 'imperative, question, or unparsed where no verb can be named.';
COMMENT ON COLUMN verb_nouns.verb IS 'Lemma of what is asked to be done, with its particle (write_down); NULL for questions and unparsed texts.';
COMMENT ON COLUMN verb_nouns.noun IS 'Lemma of its object''s head; NULL where it has no noun.';
COMMENT ON COLUMN verb_nouns.question_word IS 'Of a question: what, how, why, when, where, which, who, whose or yes_no.';
COMMENT ON COLUMN verb_nouns.further IS 'Further verbs asked for, each with its noun.';

CREATE TABLE novelty_scores (
  instruction_id VARCHAR PRIMARY KEY,
  run_id VARCHAR NOT NULL,
  seed_score DOUBLE,
  seed_id VARCHAR,
  pool_score DOUBLE,
  pool_id VARCHAR,
  pool_size INTEGER
);
COMMENT ON TABLE novelty_scores IS 'How near each accepted instruction is to the nearest seed and to the nearest other accepted instruction of its run.';
COMMENT ON COLUMN novelty_scores.instruction_id IS 'The instruction.';
COMMENT ON COLUMN novelty_scores.run_id IS 'The run.';
COMMENT ON COLUMN novelty_scores.seed_score IS 'Best ROUGE-L F-measure with a seed task''s instruction, 0 to 1; NULL in a run without seeds.';
COMMENT ON COLUMN novelty_scores.seed_id IS 'That seed task.';
COMMENT ON COLUMN novelty_scores.pool_score IS 'Best ROUGE-L F-measure with another accepted instruction of the run, 0 to 1; NULL where there is no other.';
COMMENT ON COLUMN novelty_scores.pool_id IS 'That instruction.';
COMMENT ON COLUMN novelty_scores.pool_size IS 'Accepted instructions of the run when it was compared with them; where there are more by now, the run is scored again.';
