"""The statistics of the Self-Instruct paper's Table 1 on real data: the view against plain Python
over the file, by way of `evoloom import`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from store.snapshot import open_snapshot
from tests.support.cli import InProcess, clean


@pytest.fixture
def evoloom(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> InProcess:
    clean(monkeypatch, tmp_path)
    return InProcess(monkeypatch, capsys)


def test_agree_with_plain_python_over_the_file(
    evoloom: InProcess, store: Path, checkout: Path
) -> None:
    path = (
        checkout.parent
        / "shared"
        / "data"
        / "self_instruct"
        / "gpt3_generated_instances_5k.jsonl.gz"
    )
    if not path.exists():
        pytest.skip("no ../shared")
    ended = evoloom("import", str(path), "--name", "sample", "--store", str(store),
                    EVOLOOM_STORE__ANALYSE="false")  # fmt: skip
    assert ended.code == 0, ended.err
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    texts = {row["instruction"] for row in rows}
    inputs = [len(row["input"].split()) for row in rows]
    outputs = [len(row["output"].split()) for row in rows]
    filled = [words for words in inputs if words]
    whole = {(row["instruction"], row["input"], row["output"]) for row in rows}
    with open_snapshot(store) as connection:
        found = connection.execute("SELECT * FROM dataset_statistics").fetchall()
    assert found == [
        (
            "sample",
            len(texts), 0, 0, len(texts),
            len(rows), len(rows) - len(whole), inputs.count(0), inputs.count(0) / len(rows),
            pytest.approx(sum(len(text.split()) for text in texts) / len(texts)),
            pytest.approx(sum(filled) / len(filled)),
            pytest.approx(sum(outputs) / len(outputs)),
        )
    ]  # fmt: skip
    # As counted when the sample was drawn (METHODS.md, a.6): means over rows, not over texts.
    assert (len(rows), len(texts)) == (5000, 4867)
    assert round(found[0][8], 3) == 0.454
    assert (round(found[0][10], 1), round(found[0][11], 1)) == (12.7, 19.3)
