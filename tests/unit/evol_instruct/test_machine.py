"""The machine itself: answers in any order give the same rows; what waits for what."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.config import resolve
from pipeline.evol_instruct.machine import EvolInstructMachine
from pipeline.evol_instruct.manifest import build_manifest, plan_of
from pipeline.evol_instruct.operators import draw_operator
from pipeline.evol_instruct.plan import EvolPlan, SourceInstance, SourceInstruction
from pipeline.evol_instruct.settings import OPERATORS
from pipeline.evol_instruct.source import encode_source
from pipeline.records import Address, Batch, Completion, InstructionRow, JournalEntry, Refusal
from pipeline.teacher.served import ServedModel

SIZE, ROUNDS = 10, 4
WORDS = "anchor bridge candle desert engine forest garden harbour island jungle kettle".split()
Answer = Callable[[Address, str], Completion | Refusal]


def plan(size: int = SIZE, **flags: Any) -> EvolPlan:
    given = {"run.seed": 5, "evol_instruct.rounds": ROUNDS, **flags}
    settings = resolve(given, flags_only=True).settings
    source = encode_source(
        SourceInstruction(f"Tell of the {word}.", (SourceInstance("", "done" * (number % 3)),))
        for number, word in enumerate(WORDS[:size])
    )
    return plan_of(build_manifest("r", settings, ServedModel("m"), source), source, ())


def only(operator: str) -> dict[str, float]:
    return {f"evol_instruct.weights.{name}": float(name == operator) for name in OPERATORS}


def play(of: EvolPlan, answer: Answer, order: random.Random | None = None) -> list[Batch]:
    """Answer what is ready, in the order of addresses or in one of its own, until nothing is."""
    machine = EvolInstructMachine(of)
    waiting: list[Address] = []
    batches: list[Batch] = []
    while waiting := [*waiting, *machine.ready()]:
        at = order.randrange(len(waiting)) if order else waiting.index(min(waiting))
        address = waiting.pop(at)
        prompt = machine.request(address).prompt_text()
        machine.apply(JournalEntry(address, "", "", {}, answer(address, prompt), 0, 0.0, ""))
        batches += machine.drain()
    assert machine.finished() == "completed"
    return sorted(batches, key=lambda batch: (batch.stream, batch.position))


def mixed(address: Address, prompt: str) -> Completion | Refusal:
    """Answers of all kinds; the address decides."""
    rng = random.Random(f"{address}")
    if rng.random() < 0.05:
        return Refusal("content_policy", "no")
    said = {
        "evolve": [f"Tell {rng.choice(WORDS)} {rng.choice(WORDS)} {rng.choice(WORDS)} tales.", "",
                   "The given prompt.", "Tell of the desert."],
        "judge": ["Not Equal", "Not Equal", "Equal", "who knows"],
        "respond": ["It stood there.", "Sorry."],
        "respond_source": ["It stood there.", "Sorry."],
        "rate": ["3", "9", "hard"], "rate_source": ["2", "?"],
    }  # fmt: skip
    finish = "length" if rng.random() < 0.05 else "stop"
    return Completion(rng.choice(said[address.stage]), finish, None)


def evolutions(batches: list[Batch]) -> list[InstructionRow]:
    return [row for batch in batches for row in batch.instructions if row.stage == "evolve"]


@pytest.mark.parametrize("difficulty", [False, True])
def test_answers_in_any_order_give_the_same_rows(difficulty: bool) -> None:
    of = plan(**{"evol_instruct.difficulty": difficulty})
    first = play(of, mixed)
    reasons = {row.reason for row in evolutions(first)}
    assert reasons >= {None, "leaked_prompt", "not_novel", "no_information_gain", "sorry"}
    for seed in range(12):
        assert play(of, mixed, random.Random(seed)) == first


def test_streams_come_in_position_order() -> None:
    machine_batches: dict[str, list[Any]] = {}
    for batch in play(plan(), mixed, random.Random(3)):
        machine_batches.setdefault(batch.stream, []).append(batch.position)
    assert machine_batches["evolve"] == [(p,) for p in range(SIZE * ROUNDS)]
    assert machine_batches["source"] == [(p,) for p in range(SIZE)]


def sound(address: Address, prompt: str) -> Completion:
    said = {"judge": "Not Equal", "respond": "It stood.", "respond_source": "It stood."}
    return Completion(
        said.get(address.stage, f"Tell tale {address} about {prompt[-9:]}"), "stop", None
    )


@pytest.mark.parametrize(
    ("stage", "text", "reason"),
    [("judge", "Equal", "no_information_gain"), ("respond", "Sorry.", "sorry")],
)
def test_an_admitted_breadth_child_blocks_whatever_becomes_of_it(
    stage: str, text: str, reason: str
) -> None:
    same = "Describe seven quarries beside the sea that nobody visits any more."

    def answer(address: Address, prompt: str) -> Completion:
        if address.stage == "evolve":
            return Completion(same, "stop", None)
        if address.stage == stage:
            return Completion(text, "stop", None)
        return sound(address, prompt)

    rows = evolutions(play(plan(3, **only("breadth")), answer))
    assert [row.reason for row in rows] == [reason] + ["not_novel"] * (3 * ROUNDS - 1)
    assert {row.blocker.reference for row in rows[1:] if row.blocker} == {"0"}


def test_a_breadth_child_that_fails_on_its_text_blocks_nobody() -> None:
    def answer(address: Address, prompt: str) -> Completion:
        if address == Address("evolve", (0,)):
            return Completion(
                "The given prompt on quarries beside the sea, seven times.", "stop", None
            )
        if address == Address("evolve", (1,)):
            return Completion("The quarries beside the sea, seven times.", "stop", None)
        return sound(address, prompt)

    first, second, *_ = evolutions(play(plan(3, **only("breadth")), answer))
    assert (first.reason, second.reason) == ("leaked_prompt", None)


def test_novelty_follows_position_order_though_a_later_child_is_there_first() -> None:
    same = "Describe seven quarries beside the sea that nobody visits any more."

    def answer(address: Address, prompt: str) -> Completion:
        return (
            Completion(same, "stop", None) if address.stage == "evolve" else sound(address, prompt)
        )

    of = plan(3, **only("breadth"), **{"evol_instruct.rounds": 1})
    machine = EvolInstructMachine(of)
    ready = [address for address in machine.ready() if address.stage == "evolve"]
    for address in reversed(ready):
        machine.apply(JournalEntry(address, "", "", {}, answer(address, ""), 0, 0.0, ""))
    # Only the first has a judge to ask; nothing was sent for those behind it.
    assert machine.ready() == [Address("judge", (0,))]


def test_a_slot_in_depth_waits_for_no_other() -> None:
    machine = EvolInstructMachine(plan(3, **only("deepen")))
    machine.ready()
    for stage, position in (("evolve", 2), ("judge", 2), ("respond", 2)):
        address = Address(stage, (position,))
        machine.apply(JournalEntry(address, "", "", {}, sound(address, ""), 0, 0.0, ""))
    assert Address("evolve", (5,)) in machine.ready()


def test_a_failure_leaves_its_parent_and_a_success_replaces_it() -> None:
    def answer(address: Address, prompt: str) -> Completion:
        number = address.position[0]
        if address.stage == "judge" and number % 2 == 0:
            return Completion("Equal", "stop", None)
        return sound(address, prompt)

    prompts: dict[int, str] = {}

    def kept(address: Address, prompt: str) -> Completion:
        if address.stage == "evolve":
            prompts[address.position[0]] = prompt
        return answer(address, prompt)

    of = plan(1, **only("deepen"))
    rows = evolutions(play(of, kept))
    assert [row.parent for row in rows] == ["source:0", "source:0", "1", "1"]
    assert prompts[0] == prompts[1] != prompts[2] == prompts[3]
    assert f"\n{rows[1].text}\n" in prompts[2]


def test_classification_and_conversation_of_the_source_are_kept() -> None:
    turns = '[["And then?", "It fell."]]'
    source = encode_source([
        SourceInstruction("Talk.", (SourceInstance("", "Yes.", "Be brief.", turns),), "a import/7", True)
    ])  # fmt: skip
    settings = resolve({"run.seed": 5}, flags_only=True).settings
    of = plan_of(build_manifest("r", settings, ServedModel("m"), source), source, ())
    (batch,) = [batch for batch in play(of, sound) if batch.stream == "source"]
    assert [row.is_classification for row in batch.instructions] == [True]
    assert [(row.system, row.further_turns) for row in batch.instances] == [("Be brief.", turns)]


def test_operators_follow_the_positions() -> None:
    of = plan()
    rows = evolutions(play(of, sound))
    drawn = [draw_operator(5, position, of.settings) for position in range(SIZE * ROUNDS)]
    assert [row.operator for row in rows] == drawn
