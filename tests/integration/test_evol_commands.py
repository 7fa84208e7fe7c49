"""What the commands around an evolution print: the run, its estimate, its lineage; what they refuse."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from flows.execution import publish_store
from pipeline.records import Batch, InstructionRow
from store.new_run import NewRun
from store.snapshot import open_snapshot
from tests.integration.test_evol_instruct import EVOLVE, rules, write_source
from tests.support import runs
from tests.support.cli import Ended, InProcess, clean
from tests.support.teachers import TeacherFactory, running_teacher


@pytest.fixture
def evoloom(monkeypatch, capsys, tmp_path) -> InProcess:
    clean(monkeypatch, tmp_path)
    return InProcess(monkeypatch, capsys)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a Self-Instruct run and two evolutions of it, one of the other."""
    folder = tmp_path_factory.mktemp("done")
    store = folder / "evoloom.duckdb"
    with running_teacher(folder / "teacher.log") as teacher:
        runs.start(store, teacher, run_id="seeded", run__target=6)
        # As many rounds as leave something that was evolved twice, whatever is eliminated.
        runs.evolve(store, teacher, "seeded", run_id="first", evol_instruct__rounds=6,
                    evol_instruct__limit=4)  # fmt: skip
        runs.evolve(store, teacher, "first", run_id="second", evol_instruct__rounds=2)
    return store


def refused(ended: Ended, *parts: str) -> None:
    assert ended.code == 2, ended
    assert "Traceback" not in ended.err
    for part in parts:
        assert part in ended.err


class TestRun:
    def test_shows_rounds_operators_and_what_was_eliminated(
        self, evoloom: InProcess, tmp_path: Path, scripted_teacher: TeacherFactory
    ) -> None:
        teacher = scripted_teacher()
        ended = evoloom("run", "evol-instruct", "--source", str(write_source(tmp_path)), "--rounds", "2",
                        "--limit", "8", "--seed", "11", "--run-id", "night", "--quiet",
                        EVOLOOM_TEACHER__BASE_URL=teacher.url)  # fmt: skip
        assert ended.code == 0, ended
        rows = runs.rows_of(tmp_path / "evoloom.duckdb").instructions.values()
        made = [row for row in rows if row.stage == "evolve"]
        accepted = [sum(row.state == "accepted" and row.round == r for row in made) for r in (0, 1)]
        pool = 8 + sum(accepted)
        lines = [" ".join(line.split()) for line in ended.out.splitlines()]
        assert f"result pool {pool}: 8 of {tmp_path / 'source.jsonl'}, {pool - 8} evolved from " \
               "them; run seed 11; model scripted" in lines  # fmt: skip
        for line in ("source instructions 8", "evolutions asked 16", "evolutions settled 16",
                     f"result pool {pool}", "round evolved accepted result pool", "source - 8 8",
                     f"1 8 {accepted[0]} {8 + accepted[0]}", f"2 8 {accepted[1]} {pool}"):  # fmt: skip
            assert line in lines
        for reason in {row.reason for row in made} - {None}:
            count = sum(row.reason == reason for row in made)
            assert f"eliminated: {reason} {count}" in lines
        for operator in {row.operator for row in made}:
            mine = [row for row in made if row.operator == operator]
            kept = sum(row.state == "accepted" for row in mine)
            assert f"{operator} {len(mine)} {kept}" in lines

    @pytest.mark.parametrize(
        ("source", "parts"),
        [
            (None, ["evol_instruct.source is not set", "--source"]),
            ("gone.jsonl", ["'gone.jsonl' is no run", "first", "second", "seeded", "no file"]),
            ("bad.jsonl", ["bad.jsonl", "line 2", "'output'"]),
        ],
    )
    def test_refuses_a_source_before_anything_is_asked(
        self, evoloom: InProcess, tmp_path: Path, done: Path, source: str | None, parts: list[str]
    ) -> None:
        (tmp_path / "bad.jsonl").write_text(
            '{"instruction": "a"}\n{"instruction": "b", "output": 1}\n'
        )
        flags = [] if source is None else ["--source", source]
        for more in ([], ["--dry-run"]):
            refused(evoloom("run", "evol-instruct", *flags, *more, "--store", str(done)), *parts)


class TestDryRun:
    def test_published_growth_and_its_cost(self, evoloom: InProcess, tmp_path: Path) -> None:
        """52,002 instructions, four rounds: 624 thousand requests at most, 250 thousand in the end."""
        row = {"instruction": "Name a river of Europe and the sea.", "input": "", "output": "Rhine"}
        (tmp_path / "alpaca.json").write_text(
            json.dumps(
                [{**row, "instruction": f"{n}: {row['instruction']}"} for n in range(52_002)]
            )
        )
        arguments = ("run", "evol-instruct", "--source", "alpaca.json", "--rounds", "4", "--seed", "3",
                     "--dry-run", "--set", "prices.prompt=0.5",
                     "--set", "prices.completion=1.5", "--set", "caps.cost=10")  # fmt: skip
        text = evoloom(*arguments)
        assert text.code == 0, text
        assert "at most 624,024 requests" in text.out
        assert "52,002, 101,445, 150,889, 200,332, 249,775" in text.out
        assert re.search(r"evolve .*\b208,008 ", text.out)
        assert "caps.cost = 10 would interrupt it" in text.out
        shown = json.loads(evoloom(*arguments, "--json").out)
        assert shown["most_requests"] == 624_024
        assert [stage["stage"] for stage in shown["stages"]] == ["evolve", "judge", "respond"]
        assert shown["pool"][-1] == pytest.approx(52_002 * (1 + 4 * 0.98 * 0.98 * 0.99))
        for name in ("requests", "prompt_tokens", "completion_tokens", "cost"):
            whole = sum(stage[name] for stage in shown["stages"])
            assert whole == pytest.approx(shown[name])
        tokens = shown["prompt_tokens"] * 0.5 + shown["completion_tokens"] * 1.5
        assert shown["cost"] == pytest.approx(tokens / 1e6)
        assert f"{shown['cost']:,.4f}" in text.out
        assert sorted(path.name for path in tmp_path.iterdir()) == ["alpaca.json"]

    def test_rates_come_from_the_configuration(
        self, evoloom: InProcess, tmp_path: Path, done: Path
    ) -> None:
        (tmp_path / "evoloom.toml").write_text("[estimate]\nevolved = 0.5\njudged = 0.5\n"
                                               "answered = 1.0\n")  # fmt: skip
        ended = evoloom("run", "evol-instruct", "--source", "first", "--limit", "4", "--rounds", "2",
                        "--store", str(done), "--dry-run", "--json")  # fmt: skip
        shown = json.loads(ended.out)
        assert shown["pool"] == [4, 5, 6]
        assert [stage["requests"] for stage in shown["stages"]] == [8, 4, 2]

    def test_of_self_instruct(self, evoloom: InProcess, tmp_path: Path) -> None:
        arguments = ("run", "self-instruct", "--target", "950", "--seed", "3", "--dry-run",
                     "--set", "prices.prompt=1", "--set", "prices.completion=2")  # fmt: skip
        shown = json.loads(evoloom(*arguments, "--json").out)
        requests = {stage["stage"]: stage["requests"] for stage in shown["stages"]}
        # 950 that keep instances are 1,000 admitted, three of each generation answer.
        assert requests == {"generate": 334, "classify": 1000, "instances": 1000}
        tokens = shown["prompt_tokens"] + 2 * shown["completion_tokens"]
        assert shown["cost"] == pytest.approx(tokens / 1e6)
        text = evoloom(*arguments).out
        assert "self-instruct, dry run" in text
        assert f"{shown['cost']:,.4f}" in text
        assert f"{shown['prompt_tokens']:,}" in text
        assert not list(tmp_path.iterdir())

    def test_imports_no_engine_and_asks_nobody(
        self, evoloom: InProcess, tmp_path: Path, scripted_teacher: TeacherFactory
    ) -> None:
        teacher = scripted_teacher()
        ended = evoloom("run", "evol-instruct", "--source", str(write_source(tmp_path)), "--dry-run",
                        EVOLOOM_TEACHER__BASE_URL=teacher.url)  # fmt: skip
        assert ended.code == 0
        assert not teacher.requests()
        assert "vllm" not in sys.modules


class TestLineage:
    def test_tree_from_the_seed_run_through_two_evolutions(
        self, evoloom: InProcess, done: Path
    ) -> None:
        with open_snapshot(done) as connection:
            deepest, depth = connection.execute(
                "SELECT id, depth FROM lineage WHERE run_id = 'second' AND state = 'accepted' "
                "ORDER BY depth DESC, id LIMIT 1"
            ).fetchall()[0]
            family = connection.execute(
                "SELECT id, parent_id FROM lineage WHERE root_id = "
                "(SELECT root_id FROM lineage WHERE id = ?)", [deepest],
            ).fetchall()  # fmt: skip
        assert depth >= 3
        shown = json.loads(evoloom("lineage", deepest, "--store", str(done), "--json").out)
        nodes = {node["id"]: node for node in shown["nodes"]}
        assert {(node["id"], node["parent_id"]) for node in nodes.values()} == set(family)
        assert shown["meant"] == [deepest]
        path = [nodes[deepest]]
        while path[0]["level"]:
            path.insert(0, nodes[path[0]["parent_id"]])
        assert [node["level"] for node in path] == list(range(len(path)))
        assert [node["run_id"] for node in path][:2] == ["seeded", "first"]
        assert path[-1]["run_id"] == "second"
        assert sum(node["stage"] == "evolve" for node in path) == depth

        text = evoloom("lineage", deepest, "--store", str(done)).out
        assert sum(node["id"][:12] in text for node in nodes.values()) == len(nodes)
        (marked,) = [line for line in text.splitlines() if "* " in line]
        assert deepest[:12] in marked
        for node in nodes.values():
            if node["reason"]:
                assert f"{node['state']}: {node['reason']}" in text

    def test_what_each_operator_added(
        self, evoloom: InProcess, tmp_path: Path, scripted_teacher: TeacherFactory
    ) -> None:
        row = {"instruction": "Name a river.", "input": "Of Europe.", "output": "Rhine"}
        (tmp_path / "one.jsonl").write_text(json.dumps(row) + "\n")
        depth = [r"(?s)The Given Prompt#?:\nName a river\.\nOf Europe\..*Rewritten Prompt",
                 "Name a large river.\nOf Europe. Say why.", "stop"]  # fmt: skip
        breadth = [EVOLVE, "Describe the quarries beside the sea.", "stop"]
        teacher = scripted_teacher("--rules", rules(tmp_path, depth, breadth))
        store = tmp_path / "evoloom.duckdb"
        only = {f"evol_instruct__weights__{name}": 0.0 for name in
                ("add_constraints", "concretise", "reasoning_steps", "complicate_input")}  # fmt: skip
        for seed in range(40):
            runs.evolve(store, teacher, tmp_path / "one.jsonl", run_id=f"s{seed}", run__seed=seed,
                        evol_instruct__rounds=2, **only)  # fmt: skip
            rows = runs.rows_of(store, f"s{seed}").instructions.values()
            if [row.operator for row in rows] == [None, "deepen", "breadth"]:
                break
        lines = [
            line.strip(" |`-") for line in evoloom("lineage", f"s{seed} evolve/1").out.splitlines()
        ]
        assert lines[1:3] == ["Name a river.", "input: Of Europe."]
        assert lines[3].startswith("round 1, deepen (")
        # The input of the source is no addition.
        assert lines[4] == "added: large ... Say why."
        assert lines[5].startswith("* round 2, breadth (")
        assert lines[6:] == ["new: Describe the quarries beside the sea."]

    def test_deeper_than_python_recurses(self, evoloom: InProcess, tmp_path: Path) -> None:
        rounds = sys.getrecursionlimit() + 100
        store = tmp_path / "evoloom.duckdb"
        with NewRun(store, "deep") as run:
            run.write(
                [Batch("source", (0,), (), (InstructionRow("source", (0,), "Go.", "accepted"),))]
            )
            for number in range(rounds):
                parent = str(number - 1) if number else "source:0"
                row = InstructionRow("evolve", (number,), f"Go {number} miles.", "accepted",
                                     parent=parent, operator="deepen", round=number)  # fmt: skip
                run.write([Batch("evolve", (number,), (), (row,))])
            run.finish({"kind": "evol-instruct", "run_seed": 1})
        publish_store(store)
        found = evoloom("lineage", f"deep evolve/{rounds - 1}", "--json")
        nodes = json.loads(found.out)["nodes"]
        assert [node["level"] for node in nodes] == list(range(rounds + 1))
        lines = evoloom("lineage", "deep source/0").out.splitlines()
        assert len(lines) == 2 + 3 * rounds
        assert lines[-2].strip() == f"added: {rounds - 1}"

    @pytest.mark.parametrize(
        ("wanted", "parts"),
        [
            ("Nobody ever said this.", ["no instruction in the store is meant by", "evolve/12"]),
            ("", ["no instruction in the store is meant by"]),
            ("the", ["instructions are meant by 'the'", "name one by its id", "and ", "more"]),
            ("night evolve/999", ["no instruction in the store is meant by"]),
        ],
    )
    def test_what_is_not_meant_by_anything(
        self, evoloom: InProcess, done: Path, wanted: str, parts: list[str]
    ) -> None:
        refused(evoloom("lineage", wanted, "--store", str(done)), *parts)

    def test_words_of_a_text_mean_its_instruction(self, evoloom: InProcess, done: Path) -> None:
        rows = [row for row in runs.rows_of(done, "second").instructions.values()
                if row.stage == "evolve" and row.state == "accepted"]  # fmt: skip
        ended = evoloom("lineage", rows[-1].text.upper(), "--store", str(done))
        assert ended.code == 0, ended
        assert "* round" in ended.out
