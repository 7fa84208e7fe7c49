"""Self-Instruct from the command line to rows and export, with the bundled model in vLLM."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.teacher.engine import Engine
from store.journal import read_entries
from store.snapshot import open_snapshot

EVOLOOM = Path(sys.executable).parent / "evoloom"
MOST_REQUESTS = 40


def evoloom(*arguments: str, cwd: Path) -> Any:
    """Run a command that prints JSON."""
    done = subprocess.run(
        [str(EVOLOOM), *arguments, "--json"], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_six_accepted_from_all_seeds(engine: Engine, tmp_path: Path) -> None:
    shown = evoloom("run", "self-instruct", "--target", "6", "--run-id", "six", cwd=tmp_path)

    assert (shown["state"], shown["accepted"], shown["ingest_pending"]) == ("completed", 6, False)
    assert shown["model"] == engine.model
    exported = export(tmp_path, "six")
    with open_snapshot(tmp_path / "evoloom.duckdb") as connection:
        funnel = connection.execute(
            "SELECT subject, stage, outcome, reason, count FROM funnel WHERE run_id = 'six'"
        ).fetchall()
        rows = connection.execute(
            "SELECT i.text, s.input, s.output FROM instances s JOIN instructions i "
            "ON i.id = s.instruction_id WHERE s.run_id = 'six' "
            "AND s.state = 'accepted' AND i.state = 'accepted'"
        ).fetchall()
        completions = connection.execute(
            "SELECT count(*), sum(prompt_tokens + completion_tokens) FROM completions "
            "WHERE run_id = 'six'"
        ).fetchall()
    assert sorted(rows) == sorted(tuple(row.values()) for row in exported)
    assert len({row["instruction"] for row in exported}) == 6
    printed = [(row["subject"], row["stage"], row["outcome"], row["reason"], row["count"])
               for row in shown["funnel"]]  # fmt: skip
    assert sorted(map(str, funnel)) == sorted(map(str, printed))
    entries = list(read_entries(tmp_path / "evoloom.duckdb.runs" / "six" / "journal"))
    tokens = sum(entry.outcome.usage.total for entry in entries)  # type: ignore[union-attr]
    assert completions == [(len(entries), tokens)]


def test_classification_mode_takes_the_output_first_path(engine: Engine, tmp_path: Path) -> None:
    """Runs follow one another until the model has called one instruction classification; none of
    its answers is forced."""
    requests = 0
    # On this model the third seed is the first that has one; where it has none, others follow.
    for seed in range(2, MOST_REQUESTS):
        run_id = f"classification-{seed}"
        evoloom(
            "run", "self-instruct", "--target", "2", "--seed", str(seed), "--run-id", run_id,
            "--set", "self_instruct.classification_seeds_only=true",
            "--set", "self_instruct.input_first.completions.max_tokens=60",
            "--set", "self_instruct.output_first.completions.max_tokens=60", cwd=tmp_path,
        )  # fmt: skip
        journal = tmp_path / "evoloom.duckdb.runs" / run_id / "journal"
        entries = list(read_entries(journal))
        requests += len(entries)
        with open_snapshot(tmp_path / "evoloom.duckdb") as connection:
            (paths,) = connection.execute(
                "SELECT count(*) FILTER (is_classification) FROM instructions WHERE run_id = ?",
                [run_id],
            ).fetchall()
            generations = connection.execute(
                "SELECT DISTINCT s.is_classification FROM shots h JOIN completions c "
                "ON c.id = h.completion_id JOIN seed_tasks s "
                "ON s.run_id = c.run_id AND s.seed_id = h.reference WHERE c.run_id = ?",
                [run_id],
            ).fetchall()
        assert generations == [(True,)]
        if paths[0]:
            break
        assert requests < MOST_REQUESTS, "no instruction took the output-first path"


def export(folder: Path, run_id: str) -> list[dict[str, str]]:
    """The rows of a run's export."""
    out = folder / f"{run_id}.jsonl"
    evoloom("export", run_id, "--format", "alpaca", "--out", str(out), cwd=folder)
    return [json.loads(line) for line in out.read_text().splitlines()]
