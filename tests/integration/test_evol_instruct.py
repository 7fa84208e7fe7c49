"""Evol-Instruct from source to export against a scripted teacher: operators, conditions, accounts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from flows.evol_report import round_lines
from flows.rederive import rederive
from pipeline.errors import UsageError
from pipeline.evol_instruct.settings import OPERATORS
from pipeline.records import InstructionRow
from store.ingest import ingest
from store.queries import show_run
from store.run_rows import funnel
from store.snapshot import open_snapshot
from tests.support import runs
from tests.support.teachers import TeacherFactory

NOUNS = "anchor bridge candle desert engine forest garden harbour island jungle".split()


def write_source(folder: Path, size: int = 10, *, outputs: bool = True) -> Path:
    path = folder / "source.jsonl"
    rows = [
        {"instruction": f"Explain how a {noun} came to be where it stands.",
         "input": "It is old." if number % 3 == 0 else "", "output": "Slowly." if outputs else ""}
        for number, noun in enumerate(NOUNS[:size])
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def evolved(store: Path) -> list[InstructionRow]:
    """Evolutions in position order."""
    return [row for row in runs.rows_of(store).instructions.values() if row.stage == "evolve"]


def test_every_operator_is_used_with_its_own_prompt(
    store: Path, tmp_path: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher("--answers", "valid")
    runs.evolve(store, teacher, write_source(tmp_path), evol_instruct__rounds=6)
    asked = Counter(row["operator"] for row in teacher.requests() if row["stage"] == "evolve")
    assert asked == Counter(row.operator for row in evolved(store))
    assert set(asked) == set(OPERATORS)
    contexts = [entry.context.get("operator") for entry in runs.journal_of(store)
                if entry.address.stage == "evolve"]  # fmt: skip
    assert Counter(contexts) == asked


def test_the_accounts_add_up(store: Path, tmp_path: Path, scripted_teacher: TeacherFactory) -> None:
    size, rounds = 10, 4
    runs.evolve(store, scripted_teacher(), write_source(tmp_path), evol_instruct__rounds=rounds)
    rows = evolved(store)
    assert [row.position for row in rows] == [(p,) for p in range(size * rounds)]
    frontier = [f"source:{slot}" for slot in range(size)]
    pool = size
    for round_ in range(rounds):
        made = rows[round_ * size : (round_ + 1) * size]
        assert [row.round for row in made] == [round_] * size
        # Each slot's parent is what the last round left there: a success, or the parent again.
        assert [row.parent for row in made] == frontier
        for slot, row in enumerate(made):
            if row.state == "accepted":
                pool += 1
                frontier[slot] = str(row.position[0])
    assert size < pool < size * (rounds + 1)
    exported = [json.loads(line) for line in runs.export_bytes(store).splitlines()]
    assert len(exported) == pool
    assert all(row["output"].strip() for row in exported)
    entries = Counter(entry.address.stage for entry in runs.journal_of(store)
                      if entry.address.attempt == 0)  # fmt: skip
    assert entries["evolve"] == size * rounds
    assert sum(entries.values()) <= size * rounds * 3
    re_asked = [entry for entry in runs.journal_of(store) if entry.address.attempt]
    assert re_asked
    assert {entry.address.stage for entry in re_asked} == {"judge"}
    with open_snapshot(store) as connection:
        counted = connection.execute(
            "SELECT round, sum(evolutions), sum(accepted), sum(eliminated) FROM evolution "
            "GROUP BY round ORDER BY round NULLS FIRST"
        ).fetchall()
        view = connection.execute("SELECT * EXCLUDE run_id FROM funnel").fetchall()
    assert [row[1] for row in counted] == [size] * (rounds + 1)
    assert sum(row[2] for row in counted) == pool
    assert sum(row[3] for row in counted) == size * (rounds + 1) - pool
    mine = [(r.step, r.subject, r.stage, r.outcome, r.reason, r.count)
            for r in funnel(runs.rows_of(store)).rows]  # fmt: skip
    assert sorted(map(str, view)) == sorted(map(str, mine))


def rules(tmp_path: Path, *extra: list[str]) -> str:
    """Everything succeeds, but for what `extra` says first."""
    path = tmp_path / "rules.json"
    rest = [[r"Judgement \(just", "Not Equal", "stop"],
            [r"### Response:\s*$", "A sound answer about harbours.", "stop"]]  # fmt: skip
    path.write_text(json.dumps([*extra, *rest]))
    return str(path)


EVOLVE = r"(Rewritten|Created) Prompt(#:| \(MUST.*as input\):)\s*$"
CONDITIONS: list[Any] = [
    ([EVOLVE, "Follow the given prompt about quarries, twice and slowly.", "stop"],
     "leaked_prompt", "given prompt"),
    ([EVOLVE, "Describe a promptly given quarry to a prompt guest of yours.", "stop"], None, None),
    ([r"Judgement \(just", "Equal", "stop"], "no_information_gain", "Equal"),
    ([r"Judgement \(just", "They are not equal.", "stop"], None, None),
    ([r"Judgement \(just", "Perhaps.", "stop"], "judge_unparsable", "Perhaps."),
    ([r"### Response:\s*$", "Sorry, I cannot do that.", "stop"], "sorry", "5 words"),
    ([r"### Response:\s*$", "Sorry: " + "word " * 80, "stop"], None, None),
    ([r"### Response:\s*$", "It is what it is!", "stop"], "nothing_said", "It is what it is!"),
    ([r"### Response:\s*$", "It is a quarry!", "stop"], None, None),
    ([r"### Response:\s*$", "Half an ans", "length"], "response_truncated",
     "cut after 3 words"),
    ([EVOLVE, "Half an instr", "length"], "evolve_truncated",
     "cut after 3 words"),
    ([EVOLVE, "  ", "stop"], "empty", None),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "reason", "evidence"), CONDITIONS)
def test_each_condition_eliminates_what_it_should(
    store: Path, tmp_path: Path, scripted_teacher: TeacherFactory,
    rule: list[str], reason: str | None, evidence: str | None,
) -> None:  # fmt: skip
    teacher = scripted_teacher("--answers", "valid", "--rules", rules(tmp_path, rule))
    source = write_source(tmp_path, 1)
    runs.evolve(store, teacher, source, evol_instruct__rounds=2,
                evol_instruct__weights__breadth=0.0)  # fmt: skip
    first, second = evolved(store)
    assert (first.state, first.reason) == ("accepted" if reason is None else "rejected", reason)
    if evidence is not None:
        assert first.evidence == evidence
    # What failed is asked again at a new address, from the same parent; a success takes its place.
    assert second.parent == ("0" if reason is None else "source:0")
    asked = [entry for entry in runs.journal_of(store) if entry.address.stage == "evolve"]
    assert [str(entry.address) for entry in asked] == ["evolve/0", "evolve/1"]
    assert asked[0].parameters["seed"] != asked[1].parameters["seed"]
    assert len([row for row in teacher.requests() if row["stage"] == "evolve"]) == 2


def test_novelty_is_for_breadth_children_alone_and_in_position_order(
    store: Path, tmp_path: Path, scripted_teacher: TeacherFactory
) -> None:
    same = "Describe seven quarries beside the sea that nobody visits any more."
    teacher = scripted_teacher("--rules", rules(tmp_path, [EVOLVE, same, "stop"]),
                               "--latency", "0.0", "0.05")  # fmt: skip
    runs.evolve(store, teacher, write_source(tmp_path), evol_instruct__rounds=2)
    rows = evolved(store)
    breadth = [row for row in rows if row.operator == "breadth"]
    assert [row.reason for row in breadth] == [None] + ["not_novel"] * (len(breadth) - 1)
    assert len(breadth) > 2
    for row in breadth[1:]:
        assert row.blocker is not None
        assert (row.blocker.source, row.blocker.text, row.score) == ("machine", same, 1.0)
        assert row.blocker.reference == str(breadth[0].position[0])
    assert {row.state for row in rows if row.operator != "breadth"} == {"accepted"}
    # Neither judge nor response was asked for what was not novel.
    blocked = {row.position for row in breadth[1:]}
    assert not [entry for entry in runs.journal_of(store)
                if entry.address.position in blocked and entry.address.stage != "evolve"]  # fmt: skip


def test_a_breadth_child_near_a_source_instruction_or_an_earlier_run_is_blocked(
    store: Path, tmp_path: Path, scripted_teacher: TeacherFactory
) -> None:
    only = {f"evol_instruct__weights__{name}": 0.0 for name in OPERATORS if name != "breadth"}
    near = "Explain how a bridge came to be where it stands now."
    teacher = scripted_teacher("--rules", rules(tmp_path, [EVOLVE, near, "stop"]))
    runs.evolve(store, teacher, write_source(tmp_path, 3), evol_instruct__rounds=1, **only)
    first = evolved(store)[0]
    assert first.blocker is not None
    assert (first.blocker.source, first.blocker.reference) == ("source", "0")

    far = "Describe seven quarries beside the sea that nobody visits any more."
    teacher = scripted_teacher("--rules", rules(tmp_path, [EVOLVE, far, "stop"]))
    options: dict[str, Any] = {"evol_instruct__rounds": 1, "evol_instruct__limit": 1, **only}
    runs.evolve(store, teacher, tmp_path / "source.jsonl", run_id="a", **options)
    runs.evolve(store, teacher, tmp_path / "source.jsonl", run_id="b",
                novelty__against=["a"], **options)  # fmt: skip
    (blocked,) = [r for r in runs.rows_of(store, "b").instructions.values() if r.stage == "evolve"]
    assert blocked.blocker is not None
    assert (blocked.reason, blocked.blocker.source) == ("not_novel", "run")


def test_the_export_is_the_result_pool_shuffled_by_the_seed(
    store: Path, tmp_path: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher("--answers", "valid")
    source = write_source(tmp_path)

    def exported(run_id: str, seed: int) -> tuple[list[str], list[str]]:
        """Instructions in the order of the export, and in the order of the rows."""
        runs.evolve(store, teacher, source, run_id=run_id, run__seed=seed, evol_instruct__rounds=1)
        rows = runs.rows_of(store, run_id).instructions.values()
        shown = map(json.loads, runs.export_bytes(store, run_id).splitlines())
        return [row["instruction"] for row in shown], [row.text for row in rows]

    (one, rows), (again, _), (other, _) = (exported("a", 1), exported("b", 1), exported("c", 2))
    assert sorted(one) == sorted(rows)
    assert one != rows
    assert one == again
    sources = set(one) & set(other)
    assert len(sources) == 10
    assert [text for text in one if text in sources] != [text for text in other if text in sources]


def test_a_run_is_a_source_and_so_is_its_export(
    store: Path, tmp_path: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher()
    runs.start(store, teacher, run_id="seeded", run__target=6)
    runs.evolve(store, teacher, "seeded", evol_instruct__rounds=2, evol_instruct__limit=4)
    (tmp_path / "again.jsonl").write_bytes(runs.export_bytes(store, "seeded"))
    runs.evolve(store, teacher, tmp_path / "again.jsonl", run_id="from-file",
                evol_instruct__rounds=2, evol_instruct__limit=4)  # fmt: skip
    assert runs.export_bytes(store) == runs.export_bytes(store, "from-file")
    ingest(store)
    with open_snapshot(store) as connection:
        depths = connection.execute(
            "SELECT l.depth, r.run_id, r.stage FROM lineage l JOIN instructions r "
            "ON r.id = l.root_id WHERE l.run_id = 'night'"
        ).fetchall()
    # The lineage goes back into the run that the source came from.
    assert {(run_id, stage) for _, run_id, stage in depths} == {("seeded", "generate")}
    assert max(depth for depth, _, _ in depths) >= 1


def test_a_source_without_outputs_is_responded_to(
    store: Path, tmp_path: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher("--answers", "valid")
    source = write_source(tmp_path, 2, outputs=False)
    runs.evolve(store, teacher, source, evol_instruct__rounds=1)
    stages = Counter(str(entry.address.stage) for entry in runs.journal_of(store))
    assert stages["respond_source"] == 2
    exported = [json.loads(line) for line in runs.export_bytes(store).splitlines()]
    assert sum(row["instruction"].startswith("Explain how a") for row in exported) == 2
    assert {row["input"] for row in exported} == {"", "It is old."}


def test_difficulty_is_asked_only_if_wanted(
    store: Path, tmp_path: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher()
    source = write_source(tmp_path)
    runs.evolve(store, teacher, source, run_id="plain", evol_instruct__rounds=2)
    assert not any(row["stage"] == "rate" for row in teacher.requests())
    runs.evolve(store, teacher, source, evol_instruct__rounds=2, evol_instruct__difficulty=True)
    rated = [row.difficulty for row in runs.rows_of(store).instructions.values()]
    assert set(rated) - {None} <= set(range(1, 11))
    assert any(rated)
    # The rating changes nothing that is exported.
    assert runs.export_bytes(store) == runs.export_bytes(store, "plain")
    with open_snapshot(store) as connection:
        (total,) = connection.execute("SELECT sum(count) FROM difficulty").fetchall()
    assert total[0] == sum(row is not None for row in rated)
    lines = list(round_lines(show_run(store, runs.RUN).evolution))
    assert "difficulty" in lines[0]
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("setting", "owner", "field"),
    [("auto", "tests", None), ("auto", "vllm", "structured_outputs"),
     ("choice", "tests", "structured_outputs"), ("json_schema", "tests", "response_format"),
     ("off", "vllm", None)],
)  # fmt: skip
def test_judgements_are_held_to_their_form_where_the_engine_can(
    store: Path, tmp_path: Path, scripted_teacher: TeacherFactory,
    setting: str, owner: str, field: str | None,
) -> None:  # fmt: skip
    teacher = scripted_teacher("--answers", "valid", "--owner", owner)
    runs.evolve(store, teacher, write_source(tmp_path, 1), evol_instruct__rounds=1,
                teacher__structured_output=setting)  # fmt: skip
    (judged,) = [row for row in teacher.requests() if row["stage"] == "judge"]
    found = {"structured_outputs", "response_format"} & set(judged["fields"])
    assert found == ({field} if field else set())
    (asked,) = [row for row in teacher.requests() if row["stage"] == "evolve"]
    assert not {"structured_outputs", "response_format"} & set(asked["fields"])


@pytest.mark.parametrize("re_asks", [0, 1, 3])
def test_re_asks(
    store: Path, tmp_path: Path, scripted_teacher: TeacherFactory, re_asks: int
) -> None:
    teacher = scripted_teacher(
        "--answers", "valid", "--rules", rules(tmp_path, [r"Judgement \(just", "Maybe", "stop"])
    )
    runs.evolve(store, teacher, write_source(tmp_path, 1), evol_instruct__rounds=1,
                teacher__re_asks=re_asks)  # fmt: skip
    judged = [entry for entry in runs.journal_of(store) if entry.address.stage == "judge"]
    assert [entry.address.attempt for entry in judged] == list(range(re_asks + 1))
    assert len({entry.parameters["seed"] for entry in judged}) == re_asks + 1


def test_rederived_under_other_conditions(
    store: Path, tmp_path: Path, scripted_teacher: TeacherFactory
) -> None:
    runs.evolve(store, scripted_teacher(), write_source(tmp_path), evol_instruct__rounds=2)
    same = rederive(runs.RUN, store, {}, "same")
    assert not same.left_out
    assert runs.export_bytes(store, "same") == runs.export_bytes(store)
    rederive(runs.RUN, store, {"evol_instruct.sorry_below_words": 0}, "sorry")
    reasons = {row.reason for row in runs.rows_of(store, "sorry").instructions.values()}
    assert "sorry" in {row.reason for row in runs.rows_of(store).instructions.values()}
    assert "sorry" not in reasons
    longer = rederive(runs.RUN, store, {"evol_instruct.rounds": 3}, "longer")
    assert len(longer.left_out) == 10
    with pytest.raises(UsageError, match="evol_instruct.limit"):
        rederive(runs.RUN, store, {"evol_instruct.limit": 3}, "x")


def test_an_interrupted_evolution_exports_its_complete_prefix(
    store: Path, tmp_path: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher()
    source = write_source(tmp_path)
    result = runs.evolve(store, teacher, source, evol_instruct__rounds=3, caps__tokens=9_000)
    assert (result.end.state, result.end.reason) == ("interrupted", "cap")
    rows = evolved(store)
    assert 0 < len(rows) < 30
    assert [row.position for row in rows] == [(p,) for p in range(len(rows))]
    accepted = sum(row.state == "accepted" for row in runs.rows_of(store).instructions.values())
    assert len(runs.export_bytes(store).splitlines()) == accepted
    with pytest.raises(UsageError, match="is interrupted"):
        runs.evolve(store, teacher, runs.RUN, run_id="next")
    runs.resume(store, caps__tokens=10_000_000)
    runs.evolve(store, teacher, source, run_id="whole", evol_instruct__rounds=3)
    assert runs.export_bytes(store) == runs.export_bytes(store, "whole")
