"""References and counts inside the database: what no run directory needs to be read for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb

from store.checking.findings import Finding, Remedies
from store.student_rows import KIND_TABLES


@dataclass(frozen=True, slots=True)
class _Rule:
    """A query for rows that break a rule, (run id, the row for people), and how it is said."""

    table: str
    says: str
    query: str


_WITH_RUN = (
    "seed_tasks", "seed_instances", "completions", "shots", "instructions", "instances",
    "watermarks", "novelty_scores", *KIND_TABLES,
)  # fmt: skip
_ADDRESS = "{0}.stage || '/' || array_to_string({0}.position, '.')"
_AT = _ADDRESS.format("t")

_RULES = (
    *(
        _Rule(
            table,
            "of a run that is not in the table runs",
            f"SELECT t.run_id, '' FROM {table} AS t ANTI JOIN runs USING (run_id)",
        )
        for table in _WITH_RUN
    ),
    _Rule(
        "seed_instances",
        "of a seed task that is not there",
        "SELECT t.run_id, t.seed_id FROM seed_instances AS t "
        "ANTI JOIN seed_tasks USING (run_id, seed_id)",
    ),
    _Rule(
        "instances",
        "of an instruction that is not there",
        f"SELECT t.run_id, {_AT} FROM instances AS t "
        "ANTI JOIN instructions AS i ON i.id = t.instruction_id AND i.run_id = t.run_id",
    ),
    _Rule(
        "shots",
        "of a completion that is not there",
        "SELECT t.run_id, t.completion_id FROM shots AS t "
        "ANTI JOIN completions AS c ON c.id = t.completion_id AND c.run_id = t.run_id",
    ),
    _Rule(
        "shots",
        "that show a seed task or an instruction that is not there",
        "SELECT t.run_id, t.source || ' ' || t.reference FROM shots AS t "
        "LEFT JOIN seed_tasks AS s ON t.source = 'seed' AND s.run_id = t.run_id "
        "AND s.seed_id = t.reference "
        "LEFT JOIN instructions AS i ON t.source = 'machine' AND i.run_id = t.run_id "
        "AND i.stage = 'generate' AND array_to_string(i.position, '.') = t.reference "
        "WHERE s.seed_id IS NULL AND i.id IS NULL",
    ),
    _Rule(
        "instructions",
        "with a parent that is not there, though its run is",
        f"SELECT t.run_id, {_AT} FROM instructions AS t "
        "ANTI JOIN instructions AS p ON p.id = t.parent_id "
        "WHERE t.parent_id IS NOT NULL AND (NOT contains(t.parent, ' ') "
        "OR split_part(t.parent, ' ', 1) IN (SELECT run_id FROM runs))",
    ),
    _Rule(
        "instructions",
        "kept out by a text that is not where they say it stands",
        f"SELECT t.run_id, {_AT} FROM instructions AS t "
        "LEFT JOIN seed_tasks AS s ON t.blocker_source = 'seed' AND s.run_id = t.run_id "
        "AND s.seed_id = t.blocker_reference "
        "LEFT JOIN instructions AS i ON t.blocker_source IN ('machine', 'source') "
        "AND i.run_id = t.run_id AND (i.stage = 'source') = (t.blocker_source = 'source') "
        "AND array_to_string(i.position, '.') = t.blocker_reference "
        "WHERE t.blocker_source IN ('seed', 'machine', 'source') "
        "AND coalesce(s.instruction, i.text, '') IS DISTINCT FROM t.blocker_text",
    ),
    _Rule(
        "instructions",
        "kept out by an earlier run's instruction that is not there, though the run is",
        f"SELECT t.run_id, {_AT} FROM instructions AS t "
        "JOIN runs AS r ON r.run_id = split_part(t.blocker_reference, ' ', 1) "
        "LEFT JOIN instructions AS i ON i.run_id = r.run_id "
        "AND array_to_string(i.position, '.') = split_part(t.blocker_reference, ' ', 2) "
        "WHERE t.blocker_source = 'run' AND i.id IS NULL",
    ),
    _Rule(
        "instructions",
        "accepted in a finished run, without an accepted instance",
        f"SELECT t.run_id, {_AT} FROM instructions AS t JOIN runs AS r USING (run_id) "
        "ANTI JOIN (SELECT * FROM instances WHERE state = 'accepted') AS i "
        "ON i.instruction_id = t.id "
        "WHERE t.state = 'accepted' AND r.state IN ('completed', 'ceiling')",
    ),
    _Rule(
        "runs",
        "that count other than their accepted and surplus instructions",
        "SELECT t.run_id, t.accepted || ' accepted, ' || t.surplus || ' surplus' FROM runs AS t "
        "LEFT JOIN (SELECT run_id, count(*) FILTER (state = 'accepted') AS accepted, "
        "count(*) FILTER (state = 'surplus') AS surplus FROM instructions GROUP BY run_id) AS c "
        "USING (run_id) WHERE (t.accepted, t.surplus) "
        "IS DISTINCT FROM (coalesce(c.accepted, 0), coalesce(c.surplus, 0))",
    ),
    _Rule(
        "runs",
        "that are imports and hold another number of rows than their manifest counts",
        "SELECT t.run_id, manifest ->> '$.counts.accepted_instances' || ' counted' FROM runs AS t "
        "WHERE t.kind = 'import' AND (manifest ->> '$.counts.accepted_instances')::BIGINT "
        "<> (SELECT count(*) FROM instances AS i WHERE i.run_id = t.run_id AND i.state = 'accepted')",
    ),
    _Rule(
        "runs",
        "that are dataset versions and hold another number of rows than their manifest counts",
        "SELECT t.run_id, manifest ->> '$.instances' || ' counted' FROM runs AS t "
        "WHERE t.kind = 'dataset' AND (manifest ->> '$.instances')::BIGINT "
        "<> (SELECT count(*) FROM instances AS i WHERE i.run_id = t.run_id AND i.state = 'accepted')",
    ),
)
_ANALYSED = (
    _Rule(
        "novelty_scores",
        "of an instruction that is not there",
        "SELECT t.run_id, t.instruction_id FROM novelty_scores AS t "
        "ANTI JOIN instructions AS i ON i.id = t.instruction_id",
    ),
    _Rule(
        "verb_nouns",
        "of a parser that is not in the table parsers",
        "SELECT '', t.parser_version FROM verb_nouns AS t ANTI JOIN parsers USING (parser_version)",
    ),
)


def check_references(
    connection: duckdb.DuckDBPyConnection, remedies: Remedies
) -> Iterator[Finding]:
    """Find rows that point at nothing, and counts that do not count."""
    for rules, remedy in ((_RULES, remedies.rebuild), (_ANALYSED, remedies.analyse)):
        for rule in rules:
            yield from _broken(connection, rule, remedy)


def _broken(connection: duckdb.DuckDBPyConnection, rule: _Rule, remedy: str) -> Iterator[Finding]:
    row = connection.execute(
        f"SELECT count(*), min_by(run_id || ' ' || place, (run_id, place)) "
        f"FROM ({rule.query}) AS broken(run_id, place)"
    ).fetchone()
    assert row is not None
    if row[0]:
        rows = "row" if row[0] == 1 else "rows"
        first = f", the first: {row[1].strip()}" if row[1] and row[1].strip() else ""
        yield Finding(f"table {rule.table}", f"{row[0]} {rows} {rule.says}{first}", remedy)
