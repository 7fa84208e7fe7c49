"""Evol-Instruct with the bundled model in vLLM: two rounds over ten seed instructions."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.seeds import load_seeds
from pipeline.teacher.engine import Engine
from store.snapshot import open_snapshot
from tests.end_to_end.test_self_instruct import evoloom, export

SIZE, ROUNDS, MOST_SEEDS = 10, 2, 8
# Short answers, for a small model on two cores; cut ones are kept, or little would be left.
SHORT = [
    "evol_instruct.evolution.completions.max_tokens=80",
    "evol_instruct.response.completions.max_tokens=40",
    "evol_instruct.truncated_responses=keep",
    "evol_instruct.difficulty=true",
]


def test_two_rounds_over_ten_seed_instructions(engine: Engine, tmp_path: Path) -> None:
    """Evolutions follow one another until the model has made a lineage of depth 2; none of its
    answers is forced."""
    source = tmp_path / "seeds.jsonl"
    # Of what is short a small model makes something that is not cut.
    seeds = sorted((seed for seed in load_seeds(None) if not seed.instances[0].input),
                   key=lambda seed: len(seed.instruction))  # fmt: skip
    rows = [{"instruction": seed.instruction, "output": seed.instances[0].output}
            for seed in seeds[:SIZE]]  # fmt: skip
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sets = [part for text in SHORT for part in ("--set", text)]
    # On this model it is the second seed that shows it; where it does not, others follow.
    for seed in range(1, 1 + MOST_SEEDS):
        run_id = f"evolved-{seed}"
        shown = evoloom("run", "evol-instruct", "--source", str(source), "--rounds", str(ROUNDS),
                        "--seed", str(seed), "--run-id", run_id, *sets, cwd=tmp_path)  # fmt: skip
        assert (shown["state"], shown["model"]) == ("completed", engine.model)
        check_accounts(tmp_path, run_id)
        with open_snapshot(tmp_path / "evoloom.duckdb") as connection:
            deepest = connection.execute(
                "SELECT id, text FROM lineage WHERE run_id = ? AND depth = 2 AND state = 'accepted'",
                [run_id],
            ).fetchone()
        if deepest is not None:
            break
    assert deepest is not None, f"no lineage of depth 2 in {MOST_SEEDS} evolutions"
    nodes = evoloom("lineage", deepest[0], cwd=tmp_path)["nodes"]
    assert nodes[0]["stage"] == "source"
    assert [node["level"] for node in nodes if node["id"] == deepest[0]] == [2]


def check_accounts(folder: Path, run_id: str) -> None:
    """Evolved instructions with responses, eliminations with reasons, an export of all of them."""
    with open_snapshot(folder / "evoloom.duckdb") as connection:
        counts = dict(
            connection.execute(
                "SELECT state, count(*) FROM instructions WHERE run_id = ? AND stage = 'evolve' "
                "GROUP BY state",
                [run_id],
            ).fetchall()
        )
        unexplained = connection.execute(
            "SELECT count(*) FROM instructions WHERE run_id = ? AND state = 'rejected' "
            "AND reason IS NULL",
            [run_id],
        ).fetchone()
        judgements = connection.execute(
            "SELECT DISTINCT text FROM completions WHERE run_id = ? AND stage = 'judge'", [run_id]
        ).fetchall()
        responses = connection.execute(
            "SELECT i.text, s.output FROM instances s JOIN instructions i ON i.id = "
            "s.instruction_id WHERE s.run_id = ? AND s.state = 'accepted' AND i.stage = 'evolve'",
            [run_id],
        ).fetchall()
    assert sum(counts.values()) == SIZE * ROUNDS
    assert counts["rejected"] > 0
    assert unexplained == (0,)
    # The engine holds its judgements to the choice.
    assert {text for (text,) in judgements} <= {"Equal", "Not Equal"}
    exported = export(folder, run_id)
    assert len(exported) == SIZE + counts.get("accepted", 0)
    pairs = {(row["instruction"], row["output"]) for row in exported}
    assert set(responses) <= pairs
    assert len(responses) == counts.get("accepted", 0)
