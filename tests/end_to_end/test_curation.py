"""Curation with a judge: the bundled model in vLLM rates three instances. What it thinks of them is
recorded, not asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.curation.judging import DIMENSIONS
from pipeline.teacher.engine import Engine
from store.journal import read_entries
from store.snapshot import open_snapshot

EVOLOOM = Path(sys.executable).parent / "evoloom"
ROWS = [
    ("Name the capital of France.", "", "The capital of France is Paris."),
    ("Sum up the text.", "It rained all day, so we stayed in.", "Rain kept us in."),
    ("Explain why the sky is blue.", "", "Bananas."),
]
RECIPE = """[[steps]]
step = "decontamination"
[[steps]]
step = "quality"
unrated = "keep"
threshold = 1.0
[steps.decoding.completions]
max_tokens = 700
[steps.decoding.chat]
max_tokens = 700
"""


def evoloom(*arguments: str, cwd: Path) -> Any:
    """Run a command that prints JSON."""
    done = subprocess.run(
        [str(EVOLOOM), *arguments, "--json"], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_bundled_model_rates_three_instances(engine: Engine, tmp_path: Path) -> None:
    keys = ("instruction", "input", "output")
    lines = (json.dumps(dict(zip(keys, row, strict=True))) for row in ROWS)
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    (tmp_path / "judged.toml").write_text(RECIPE)
    evoloom("import", "rows.jsonl", "--name", "rows", cwd=tmp_path)
    curate = ("curate", "rows", "--recipe", "judged.toml", "--name", "rated", "--set",
              "store.analyse=false")  # fmt: skip
    made = evoloom(*curate, cwd=tmp_path)

    (run_dir,) = (tmp_path / "evoloom.duckdb.runs").glob("judgement-*")
    manifest = json.loads((run_dir / "manifest.json").read_text())
    assert (manifest["model"], manifest["structured_output"]) == (engine.model, "json_schema")
    entries = list(read_entries(run_dir / "journal"))
    assert {entry.address.position for entry in entries} == {(0,), (1,), (2,)}
    with open_snapshot(tmp_path / "evoloom.duckdb") as connection:
        states = connection.execute(
            f"SELECT state, text FROM completions WHERE run_id = '{run_dir.name}'"
        ).fetchall()
        scores = connection.execute(
            f"SELECT scores FROM instances WHERE run_id = '{made['run_id']}' "
            "AND state = 'accepted' AND scores IS NOT NULL"
        ).fetchall()
    assert len(states) == len(entries)
    rated = sum(state == "used" for state, _ in states)
    # Held to the schema, a small model still rates; one that did not would show nothing here.
    assert rated >= 1, states
    assert len(scores) == rated == made["steps"][-1]["details"]["rated"]
    for (text,) in scores:
        found = json.loads(text)
        assert set(found) == {"quality", *(f"quality_{name}" for name in DIMENSIONS)}
        assert all(1 <= value <= 5 for value in found.values())

    again = evoloom(*curate, cwd=tmp_path)
    assert (again["run_id"], again["created"]) == (made["run_id"], False)
    assert len(list(read_entries(run_dir / "journal"))) == len(entries)
