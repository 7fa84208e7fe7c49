import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from store.catalog import Reference, find_references, read_catalog


def test_the_page_is_what_the_schema_and_the_queries_say(checkout: Path) -> None:
    done = subprocess.run(
        [sys.executable, "scripts/store_doc.py", "--check"],
        cwd=checkout, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_the_page_has_every_relation_column_and_query(checkout: Path) -> None:
    page = (checkout / "docs" / "STORE.md").read_text("utf-8")
    for relation in read_catalog():
        _, _, section = page.partition(f"\n### {relation.name}\n")
        section = section.partition("\n##")[0]
        assert relation.comment in section
        for column in relation.columns:
            assert f"| `{column.name}`" in section and column.comment.replace("|", "\\|") in section
    queries = sorted((checkout / "docs" / "queries").glob("*.sql"))
    assert [int(path.name[:2]) for path in queries] == list(range(1, 16))
    for path in queries:
        question, *query = path.read_text("utf-8").splitlines()
        assert question.startswith("-- ") and question.removeprefix("-- ") in page
        assert "\n".join(query) in page


class TestReferences:
    def test_are_found_by_name(self) -> None:
        found = find_references(read_catalog())
        assert Reference("instances", "instruction_id", "instructions", "id") in found
        assert Reference("instructions", "parent_id", "instructions", "id") in found
        assert Reference("instructions", "text_id", "verb_nouns", "text_id") in found
        assert all(item.column != "id" for item in found)

    def test_one_that_nobody_has_explained_is_an_error(self) -> None:
        *others, last = (item for item in read_catalog() if not item.is_view)
        column = replace(last.columns[0], name="teacher_id")
        table = replace(last, columns=(*last.columns, column))
        with pytest.raises(ValueError, match=f"{last.name}.teacher_id"):
            find_references((*others, table))

    def test_name_columns_that_are_there(self) -> None:
        tables = {item.name: item for item in read_catalog() if not item.is_view}
        for item in find_references(tuple(tables.values())):
            assert item.target_column in tables[item.target].key
