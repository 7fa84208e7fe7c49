"""Writes docs/STORE.md from the schema and the example queries; `--check` only compares.

Usage: python scripts/store_doc.py [--check]
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from store.catalog import Reference, Relation, find_references, read_catalog  # noqa: E402

PAGE = ROOT / "docs" / "STORE.md"
QUERIES = ROOT / "docs" / "queries"
_HEAD = """# The store

<!-- Made by scripts/store_doc.py from store/migrations/ and docs/queries/; edit those, or its head. -->

Everything that evoloom makes is in one DuckDB database: runs with every completion, instruction and
instance, accepted or not and why, imports, dataset versions. It is a projection of the run
directories (docs/RUNS.md) and can be made again from them at any time. An import is a run of kind
`import`; a dataset version is one of kind `dataset`, whose run id is its name
(`nightly@2026-11-21.1`): whatever is asked of a run can be asked of them.

## Opening it

Open the **snapshot**, `evoloom.snapshot.duckdb` beside the store, at any moment and for as long as
you like: it is complete, never changes under you, and no job waits for you. Every command that
changes the store publishes a new one. A run that is going on does so too, at least
`store.ingest_interval_s` apart and as often as a twentieth of its time allows, however large the store
has grown (flows/pacing.py). The table `snapshot` says when yours was taken and of which runs. Do not
open `evoloom.duckdb` itself: while you have it open no job can write to it (nothing is lost, but it
stays `ingest pending`).

```sh
evoloom sql "SELECT * FROM dataset_statistics"
evoloom sql --file docs/queries/03-sunburst.sql --format csv --out sunburst.csv
duckdb -readonly evoloom.snapshot.duckdb     # DuckDB's own command line, version 2.0 or later
```
```python
import os, duckdb

# The link is resolved first: a process that connects to the same path twice gets the old file again.
store = duckdb.connect(os.path.realpath("evoloom.snapshot.duckdb"), read_only=True)
store.sql("FROM verb_noun_pairs WHERE method = 'mended' ORDER BY count DESC").pl()
```
BI tools: a DuckDB connection (JDBC or ODBC) to the same file, in read-only mode. One that stays
connected goes on seeing its snapshot; reconnect to see a newer one.

All times are UTC, in columns without a time zone. Lengths in words count what white space separates.
Shares are between 0 and 1. The tables hold everything; the views count what is *accepted*, by
distinct text where instructions are meant, and only `funnel`, `lineage`, `evolution` and
`shot_texts` show the rest too. Verb-noun pairs and novelty scores are worked out after a run
(`evoloom store analyse`); until then their views are empty, or hold NULL.
"""


def page() -> str:
    """The whole page."""
    relations = read_catalog()
    parts = [_HEAD, "\n## Entities\n"]
    parts.append("Keys and references only; everything else is in the tables below.\n")
    parts.append(_diagram(relations))
    for title, is_view in (("Views", True), ("Tables", False)):
        parts.append(f"\n## {title}")
        parts += [_relation(item) for item in relations if item.is_view == is_view]
    parts.append("\n## Example queries\n")
    parts.append("Each is a file in docs/queries/: `evoloom sql --file docs/queries/01-runs.sql`.")
    parts += [_query(path) for path in query_files()]
    return "\n".join(parts) + "\n"


def query_files() -> list[Path]:
    """The example queries, in order."""
    return sorted(QUERIES.glob("*.sql"))


def split_question(text: str) -> tuple[str, str]:
    """The question in a query's first comment lines, and the query."""
    lines = text.splitlines()
    count = next(i for i, line in enumerate(lines) if not line.startswith("--"))
    question = " ".join(line.removeprefix("--").strip() for line in lines[:count])
    return question, "\n".join(lines[count:])


def _diagram(relations: tuple[Relation, ...]) -> str:
    references = find_references(relations)
    lines = ["```mermaid", "erDiagram"]
    lines += [_edge(item, relations) for item in references]
    for table in relations:
        shown = {item.column for item in references if item.source == table.name}
        if not table.is_view:
            lines.append(f"  {table.name} {{")
            lines += [
                f"    {column.type} {column.name}" + _mark(column.is_key, column.name in shown)
                for column in table.columns
                if column.is_key or column.name in shown
            ]
            lines.append("  }")
    return "\n".join([*lines, "```"])


def _mark(is_key: bool, is_reference: bool) -> str:
    marks = ["PK"] * is_key + ["FK"] * is_reference
    return f" {', '.join(marks)}" if marks else ""


def _edge(item: Reference, relations: tuple[Relation, ...]) -> str:
    tables = {relation.name: relation for relation in relations}
    source, target = tables[item.source], tables[item.target]
    column = next(column for column in source.columns if column.name == item.column)
    # A reference to a part of a key may name several rows; one that may be NULL, none.
    one = "||" if not column.is_nullable else "|o"
    if target.key != (item.target_column,) and not set(target.key) <= _names(source):
        one = "}o"
    many = "o|" if source.key == (item.column,) else "o{"
    return f"  {item.target} {one}--{many} {item.source} : {item.column}"


def _names(relation: Relation) -> set[str]:
    return {column.name for column in relation.columns}


def _relation(relation: Relation) -> str:
    lines = [f"\n### {relation.name}\n", f"{relation.comment}\n"]
    lines.append("| column | type | meaning |\n|---|---|---|")
    for column in relation.columns:
        key = " (key)" if column.is_key else ""
        lines.append(_row((f"`{column.name}`{key}", f"`{column.type}`", column.comment)))
    return "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _query(path: Path) -> str:
    question, sql = split_question(path.read_text("utf-8"))
    return f"\n### {path.stem}\n\n{question}\n\n```sql\n{sql}\n```"


def main() -> int:
    """Write the page, or say whether it is up to date."""
    text = page()
    if "--check" in sys.argv[1:]:
        if PAGE.exists() and PAGE.read_text("utf-8") == text:
            return 0
        print(f"{PAGE.relative_to(ROOT)} is out of date: run python scripts/store_doc.py",
              file=sys.stderr)  # fmt: skip
        return 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
