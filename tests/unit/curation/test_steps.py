"""The steps that need no model."""

from __future__ import annotations

import json
import random

import pytest

from pipeline.curation import Candidate, Recipe, run_recipe
from pipeline.curation.context import Context
from pipeline.curation.records import Outcome
from pipeline.curation.step import Step
from pipeline.curation.steps import STEPS
from pipeline.errors import EvoloomError
from tests.unit.curation.candidates import apply, candidates, kept, reasons


class TestFilters:
    def test_instances_are_judged_as_published_and_together(self) -> None:
        given = candidates(
            ("Sum up.", "a", "b"), ("Sum up.", "a", "c"), ("Sum up.", "d", "e"),
            ("Say it.", "", "yes"), ("Say it.", "", "yes"), ("Say it.", "", ""),
            ("Copy.", "x", "x"), ("List.", "", "Here is a list:"),
        )  # fmt: skip
        outcome = apply("instance_filters", given)
        assert kept(outcome) == [3]
        assert reasons(outcome) == {
            0: "conflicting_outputs", 1: "conflicting_outputs", 2: "conflicting_outputs",
            4: "duplicate", 5: "empty_output", 6: "input_equals_output", 7: "ends_with_colon",
        }  # fmt: skip

    def test_conversations_that_open_alike_are_no_duplicates(self) -> None:
        def one(number: int, system: str | None, further: object, output: str = "Hi!") -> Candidate:
            turns = None if further is None else json.dumps(further)
            return Candidate(number, 0, "Hello", "Ada", output, None, system, turns)

        given = [
            one(0, None, None), one(1, None, [["Sum up.", "Done."]]), one(2, "Be curt.", None),
            one(3, "Be curt.", None), one(4, "Be kind.", None, "Hello there!"),
        ]  # fmt: skip
        outcome = apply("instance_filters", given)
        assert (kept(outcome), reasons(outcome)) == ([0, 1, 2, 4], {3: "duplicate"})
        outcome = apply("instance_filters", [*given, one(5, "Be kind.", None, "What?")])
        assert kept(outcome) == [0, 1, 2]
        assert reasons(outcome) == {
            3: "duplicate", 4: "conflicting_outputs", 5: "conflicting_outputs"
        }  # fmt: skip
        assert len(kept(apply("instance_filters", given, max_instances=2))) == 2

    def test_parameters_turn_filters_off(self) -> None:
        given = candidates(("List.", "", "Here is a list:"))
        assert kept(apply("instance_filters", given, drop_trailing_colons=False)) == [0]

    def test_instructions_with_the_word_that_was_found(self) -> None:
        given = candidates(
            ("Draw a picture of a cat now.", "", "no"), ("Say how far it is to Rome.", "", "far")
        )
        outcome = apply("instruction_filters", given)
        assert kept(outcome) == [1]
        assert [(r.reason, r.evidence) for r in outcome.rejected] == [("keyword", "picture")]


class TestDuplicates:
    def test_exact_ones_go_whatever_case_and_space(self) -> None:
        given = candidates(
            ("Say  Yes", "", "Yes"), ("say yes", "", "yes "), ("say yes", "", "no"),
            ("say", "yes", "yes"),
        )  # fmt: skip
        outcome = apply("exact_duplicates", given)
        assert reasons(outcome) == {1: "exact_duplicate", 3: "exact_duplicate"}
        assert outcome.rejected[0].evidence == "Say  Yes"
        assert kept(apply("exact_duplicates", given, ignore_case=False)) == [0, 1, 2]
        assert kept(apply("exact_duplicates", given, ignore_space=False)) == [0, 1, 2, 3]
        assert kept(apply("exact_duplicates", given, of="prompt")) == [0]
        assert kept(apply("exact_duplicates", given, of="output")) == [0, 2]

    def test_a_conversation_is_the_same_only_with_all_its_turns(self) -> None:
        first = Candidate(0, 0, "Hi", "", "Hello", further_turns='[["a", "b"]]')
        second = Candidate(1, 0, "Hi", "", "Hello", further_turns='[["a", "c"]]')
        assert kept(apply("exact_duplicates", [first, second])) == [0, 1]

    def test_near_ones_name_what_they_are_near_to(self) -> None:
        given = candidates(
            ("Write a short story about a brave dog.", "", "a"),
            ("Write a short story about a brave cat.", "", "b"),
            ("Name three rivers of Europe.", "", "c"),
            ("Write a short story about a brave dog.", "x", "d"),
        )
        outcome = apply("near_duplicates", given)
        assert kept(outcome) == [0, 2, 3]
        (reject,) = outcome.rejected
        assert reject.evidence == given[0].instruction
        assert reject.score == pytest.approx(7 / 8)
        assert kept(apply("near_duplicates", given, threshold=0.9)) == [0, 1, 2, 3]


class TestLengthAndLanguage:
    def test_length_counts_words_or_characters(self) -> None:
        given = candidates(("Say it", "", "one two three"), ("Say it", "x y z", "one"))
        outcome = apply("length", given, min_output=2, max_output=3)
        assert reasons(outcome) == {1: "output_too_short"}
        assert outcome.rejected[0].score == 1
        assert kept(apply("length", given, unit="characters", max_output=3)) == [1]
        assert reasons(apply("length", given, max_input=2)) == {1: "input_too_long"}
        assert kept(apply("length", given, min_input=3)) == [0, 1]  # an empty input is none

    def test_other_languages_go_and_short_english_stays(self) -> None:
        given = candidates(
            ("Design a logo.", "", "Well"),
            ("Schreibe eine kurze Geschichte über einen Hund und seine Freunde.", "", "Gut"),
            ("翻译这个句子", "", "好"),
            ("Photosynthesis?", "", "Light"),
        )
        outcome = apply("language", given)
        assert kept(outcome) == [0, 3]
        assert [reject.evidence for reject in outcome.rejected] == ["de", "zh"]
        assert kept(apply("language", given, keep=["de"], keep_unknown=False)) == [1]


class TestLima:
    LONG = "It explains the matter at length. " * 40

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (LONG, None),
            ("Too short.", "answer_too_short"),
            (LONG * 4, "answer_too_long"),
            (LONG + "I would not do that.", "first_person"),
            (LONG + "That is my opinion.", "first_person"),
            (LONG + 'He said "I am here" and left.', None),
            (LONG + "World War I was long. See part I.", None),
            (LONG + "`for i in I: pass`", None),
            (LONG + "As John said, it rains.", "refers_to_other_answers"),
            (LONG + "The other answers are wrong.", "refers_to_other_answers"),
            (LONG + "As others have pointed out, no.", "refers_to_other_answers"),
            (LONG + "As mentioned above, it rains.", None),
        ],
    )
    def test_mechanical_rules(self, answer: str, reason: str | None) -> None:
        outcome = apply("lima", candidates(("Explain it.", "", answer)))
        assert reasons(outcome).get(0) == reason

    def test_takes_a_sample_by_the_seed(self) -> None:
        given = candidates(*((f"Explain {n}.", "", self.LONG) for n in range(50)))
        first, again, other = (apply("lima", given, seed, count=10) for seed in (1, 1, 2))
        assert len(first.kept) == 10
        assert kept(first) == kept(again) != kept(other)
        assert set(reasons(first).values()) == {"not_sampled"}


class TestSelection:
    def scored(self) -> list[Candidate]:
        given = candidates(*((f"Say {n}.", "", "x") for n in range(6)))
        return [
            item.scored(ifd=score) for item, score in zip(given, (3, 1, 2, 3, 2, 0), strict=True)
        ]

    def test_random_is_drawn_by_the_seed(self) -> None:
        given = candidates(*((f"Say {n}.", "", "x") for n in range(40)))
        first, again, other = (apply("random", given, seed, count=8) for seed in (1, 1, 2))
        assert len(first.kept) == 8
        assert kept(first) == kept(again) != kept(other)
        assert kept(apply("random", given, count=99)) == list(range(40))

    def test_top_takes_the_best_and_the_earlier_of_equals(self) -> None:
        outcome = apply("top_k", self.scored(), by="ifd", count=3)
        assert kept(outcome) == [0, 2, 3]
        assert outcome.rejected[0].score == 1
        assert kept(apply("top_k", self.scored(), by="ifd", count=2, lowest=True)) == [1, 5]

    def test_quota_by_verb(self) -> None:
        given = candidates(
            ("Write a poem about rain.", "", "a"), ("Write a letter to Ann.", "", "b"),
            ("Write a story about snow.", "", "c"), ("List three rivers.", "", "d"),
            ("What is the capital of Peru?", "", "e"), ("", "", "f"),
        )  # fmt: skip
        outcome = apply("verb_quota", given, count=1)
        assert kept(outcome) == [0, 3, 4, 5]
        assert {reject.evidence for reject in outcome.rejected} == {"write"}
        assert kept(apply("verb_quota", given, count=1, unparsed="reject")) == [0, 3, 4]
        assert kept(apply("verb_quota", given, count=1, of="pair")) == [0, 1, 2, 3, 4, 5]
        best = [item.scored(ifd=float(item.number)) for item in given]
        assert kept(apply("verb_quota", best, count=1, by="ifd")) == [2, 3, 4, 5]


class TestRunning:
    def test_steps_follow_one_another_and_each_is_reported(self) -> None:
        given = candidates(
            ("Say it.", "", "one two"), ("Say it.", "", "one"), ("Tell it.", "", "one"),
            ("Ask it.", "", "one two three"),
        )  # fmt: skip
        steps = (
            STEPS["length"].model_validate({"min_output": 2}),
            STEPS["random"].model_validate({"count": 1}),
        )
        curated = run_recipe(Recipe("r", "", steps, seed=4), given, Context())
        first, second = curated.steps
        assert (first.instances_in, first.instances_out) == (4, 2)
        assert (first.instructions_in, first.instructions_out) == (3, 2)
        assert first.reasons == {"output_too_short": 2}
        assert first.parameters["min_output"] == 2
        assert (second.number, second.step, second.instances_in) == (2, "random", 2)
        assert len(curated.kept) == 1
        assert sorted(step for step, _ in curated.rejected) == [1, 1, 2]

    def test_the_seed_is_the_recipes(self) -> None:
        given = candidates(*((f"Say {n}.", "", "x") for n in range(40)))
        steps = (STEPS["random"].model_validate({"count": 5}),)
        runs = [run_recipe(Recipe("r", "", steps, seed=seed), given, Context(seed=9)).kept
                for seed in (1, 1, 2)]  # fmt: skip
        assert runs[0] == runs[1] != runs[2]

    @pytest.mark.parametrize("double", [False, True])
    def test_a_step_that_loses_candidates_is_found_out(self, *, double: bool) -> None:
        class Careless(Step):
            step = "careless"

            def apply(self, candidates: object, context: Context) -> Outcome:
                assert isinstance(candidates, list)
                return Outcome(candidates * 2 if double else candidates[1:])

        with pytest.raises(EvoloomError, match="step careless lost or doubled candidates"):
            run_recipe(Recipe("r", "", (Careless(),)), candidates(("a", "", "b")), Context())

    def test_any_order_of_candidates_in_a_step_gives_a_whole(self) -> None:
        rng = random.Random(3)
        given = candidates(*((f"Say {rng.randrange(9)}.", "", f"{n}") for n in range(60)))
        for name in ("instance_filters", "exact_duplicates", "near_duplicates", "lima"):
            outcome = apply(name, given)
            numbers = kept(outcome) + list(reasons(outcome))
            assert sorted(numbers) == list(range(60)), name
            assert json.dumps(dict(outcome.details))
