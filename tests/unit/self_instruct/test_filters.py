"""Self-Instruct's heuristic filters: every published constant at its border, order, properties."""

import random
import string
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.self_instruct.filter_settings import (
    PUBLISHED_KEYWORDS,
    InstanceFilters,
    InstructionFilters,
)
from pipeline.self_instruct.filters import (
    InstanceVerdict,
    Rejection,
    filter_instances,
    reject_reason,
)
from pipeline.self_instruct.parsing import ParsedInstance

PUBLISHED = InstructionFilters()


class TestRejectReason:
    """One instruction at a time."""

    @pytest.mark.parametrize(
        ("instruction", "reason", "evidence"),
        [
            ("", "empty", ""),
            (" \n", "empty", ""),
            ("Write a poem", "too_short", "3"),
            ("Summarise.", "too_short", "1"),
            ("写一首关于秋天的诗。", "too_short", "1"),
            (" ".join(["word"] * 151), "too_long", "151"),
            ("Describe the Image in words.", "keyword", "image"),
            ("Find every FILE older than a week.", "keyword", "file"),
            ("Plot the values as a graph.", "keyword", "graph"),
            ("Tell me when to go to bed.", "keyword", "go to"),
            ("Sketch the map, then explain it.", "keyword", "map"),
            ("Write a program that sorts a list.", "forbidden_prefix", "Write a program"),
            ("write a PROGRAM that sorts a list.", "forbidden_prefix", "Write a program"),
            ("Write a programming joke for children.", "forbidden_prefix", "Write a program"),
            ("- Write a poem about rain.", "leading_punctuation", "-"),
            ("(Hint) name four kinds of rock.", "leading_punctuation", "("),
            ("**Write a poem about rain.", "leading_punctuation", "*"),
            ("Évaluez la phrase qui suit.", "non_ascii_start", "É"),
            ("“Rust never sleeps” is a title.", "non_ascii_start", "“"),
            ("请 翻译 这个 句子", "non_ascii_start", "请"),
        ],
    )
    def test_names_reason_and_evidence(self, instruction: str, reason: str, evidence: str) -> None:
        rejection = reject_reason(instruction, PUBLISHED)
        assert rejection is not None
        assert (rejection.reason, rejection.evidence) == (reason, evidence)

    @pytest.mark.parametrize(
        "instruction",
        [
            "Write a short poem.",
            " ".join(["word"] * 150),
            "Profile the imagery of this poem.",
            "Explain graphene and photographs to me.",
            "Mapping a drawing is no plotting.",
            "Should I go today or tomorrow?",
            "Explain what 'Write a program' means here.",
            "Please write a program that sorts.",
            "7 tips for a calm morning",
            "Translate 'château' into plain English.",
        ],
    )
    def test_keeps(self, instruction: str) -> None:
        assert reject_reason(instruction, PUBLISHED) is None

    @pytest.mark.parametrize("keyword", PUBLISHED_KEYWORDS)
    def test_each_published_keyword_rejects_as_a_whole_word(self, keyword: str) -> None:
        text = f"Say how you would use {keyword.upper()}, and why."
        assert reject_reason(text, PUBLISHED) == Rejection("keyword", keyword)
        assert reject_reason(f"Say how you would use x{keyword}x and why.", PUBLISHED) is None

    @pytest.mark.parametrize("character", string.punctuation)
    def test_each_ascii_punctuation_mark_rejects(self, character: str) -> None:
        text = f"{character}Name four kinds of rock."
        assert reject_reason(text, PUBLISHED) == Rejection("leading_punctuation", character)

    @pytest.mark.parametrize(
        ("instruction", "first"),
        [
            ("*draw é", "too_short"),
            ("*" + " draw" * 151, "too_long"),
            ("Write a program to draw a circle.", "keyword"),
            ("-draw a circle and a square", "keyword"),
        ],
    )
    def test_asks_in_the_published_order(self, instruction: str, first: str) -> None:
        rejection = reject_reason(instruction, PUBLISHED)
        assert rejection is not None
        assert rejection.reason == first

    def test_a_prefix_of_punctuation_is_asked_before_punctuation(self) -> None:
        settings = InstructionFilters(forbidden_prefixes=("#",))
        assert reject_reason("# Name four kinds of rock", settings) == Rejection(
            "forbidden_prefix", "#"
        )

    def test_the_first_keyword_of_the_settings_is_the_evidence(self) -> None:
        text = "Draw a map from this picture."
        assert reject_reason(text, PUBLISHED) == Rejection("keyword", "picture")
        reordered = InstructionFilters(keywords=("map", "picture"))
        assert reject_reason(text, reordered) == Rejection("keyword", "map")

    def test_every_filter_can_be_switched_off(self) -> None:
        settings = InstructionFilters(
            min_words=1,
            keywords=(),
            forbidden_prefixes=(),
            reject_leading_punctuation=False,
            reject_non_ascii_start=False,
        )
        for text in ("Draw", "*draw a map", "Write a program now", "请画一张图"):
            assert reject_reason(text, settings) is None

    def test_keywords_may_hold_any_character(self) -> None:
        settings = InstructionFilters(keywords=("c++", "a.b"))
        assert reject_reason("Explain C++ to a child.", settings) == Rejection("keyword", "c++")
        assert reject_reason("Explain aXb to a child.", settings) is None

    @settings(deadline=None)  # a loaded machine may be slow at any moment
    @given(st.text())
    def test_what_passes_violates_no_filter(self, text: str) -> None:
        if reject_reason(text, PUBLISHED) is None:
            kept = text.strip()
            assert 4 <= len(kept.split()) <= 150
            assert kept[0].isascii()
            assert kept[0] not in string.punctuation
            assert not kept.capitalize().startswith("Write a program")


def _instances(*pairs: tuple[str, str]) -> list[ParsedInstance]:
    return [ParsedInstance(input=given_, output=output) for given_, output in pairs]


def _reasons(*pairs: tuple[str, str], settings: InstanceFilters | None = None) -> list[str | None]:
    verdicts = filter_instances(
        _instances(*pairs), settings=settings or InstanceFilters(), rng=random.Random(0)
    )
    return [verdict.reason for verdict in verdicts]


class TestFilterInstances:
    """All instances of one instruction."""

    @pytest.mark.parametrize(
        ("pairs", "reasons"),
        [
            pytest.param([], [], id="none"),
            pytest.param([("a", "b"), ("", "c")], [None, None], id="valid"),
            pytest.param([("a", "")], ["empty_output"], id="empty-output"),
            pytest.param([("", "")], ["empty_output"], id="both-empty"),
            pytest.param([("a", "a"), ("A", "a")], ["input_equals_output", None], id="copied"),
            pytest.param([("Text:", "b")], ["ends_with_colon"], id="colon-input"),
            pytest.param([("a", "Answer:")], ["ends_with_colon"], id="colon-output"),
            pytest.param([("a: b", "c: d")], [None], id="colon-inside"),
            pytest.param(
                [("a", "b"), ("c", "d"), ("a", "x")], ["conflicting_outputs"] * 3, id="conflict"
            ),
            pytest.param([("", "b"), ("", "c")], [None, None], id="empty-inputs-never-conflict"),
            pytest.param(
                [("a", "b"), ("a", "a"), ("a", ""), ("a", "x:")],
                [None, "input_equals_output", "empty_output", "ends_with_colon"],
                id="invalid-ones-cause-no-conflict",
            ),
            pytest.param(
                [("a", ""), ("a", "b"), ("a", "c")],
                ["empty_output", "conflicting_outputs", "conflicting_outputs"],
                id="own-fault-stays-beside-conflict",
            ),
            pytest.param(
                [("a", "b"), ("c", "d"), ("a", "b"), ("a", "b")],
                [None, None, "duplicate", "duplicate"],
                id="duplicates-keep-the-first",
            ),
            pytest.param([("", "b"), ("", "b")], [None, "duplicate"], id="duplicate-no-input"),
            pytest.param(
                [("a", "b"), ("a", "b"), ("a", "c"), ("d", ""), ("d", "")],
                [*["conflicting_outputs"] * 3, "empty_output", "empty_output"],
                id="a-repeated-reject-keeps-its-reason",
            ),
        ],
    )
    def test_judges(self, pairs: list[tuple[str, str]], reasons: list[str | None]) -> None:
        assert _reasons(*pairs) == reasons

    def test_keeps_a_sample_of_at_most_five_in_parsed_order(self) -> None:
        pairs = [("", letter) for letter in "abcdefgh"]
        counts: Counter[str] = Counter()
        for seed in range(200):
            verdicts = filter_instances(
                _instances(*pairs), settings=InstanceFilters(), rng=random.Random(seed)
            )
            kept = [verdict.instance.output for verdict in verdicts if verdict.kept]
            assert len(kept) == 5
            assert kept == sorted(kept)
            assert {v.reason for v in verdicts if not v.kept} == {"over_limit"}
            counts.update(kept)
        # Each of the eight is kept with probability 5/8: 125 of 200 expected.
        assert all(90 < counts[letter] < 160 for letter in "abcdefgh")

    def test_the_limit_counts_what_is_left_after_the_other_filters(self) -> None:
        pairs = [("", "a"), ("", "a"), ("", ""), ("", "b"), ("", "c"), ("", "d"), ("", "e")]
        assert _reasons(*pairs) == [None, "duplicate", "empty_output", None, None, None, None]

    def test_draws_nothing_from_the_generator_when_nothing_is_left_out(self) -> None:
        rng = random.Random(7)
        before = rng.getstate()
        five = _instances(*[("", letter) for letter in "abcde"])
        filter_instances(five, settings=InstanceFilters(), rng=rng)
        assert rng.getstate() == before

    @pytest.mark.parametrize(
        ("setting", "pairs"),
        [
            ("drop_empty_outputs", [("a", "")]),
            ("drop_copied_inputs", [("a", "a")]),
            ("drop_trailing_colons", [("a:", "b"), ("c", "d:")]),
            ("drop_conflicting_inputs", [("a", "b"), ("a", "c")]),
            ("drop_duplicates", [("a", "b"), ("a", "b")]),
        ],
    )
    def test_every_filter_can_be_switched_off(
        self, setting: str, pairs: list[tuple[str, str]]
    ) -> None:
        assert None not in _reasons(*pairs)[1:] or len(pairs) == 1
        settings = InstanceFilters.model_validate({setting: False})
        assert _reasons(*pairs, settings=settings) == [None] * len(pairs)

    TEXTS = st.sampled_from(("", "a", "b", "c", "d:", "e", "f", "g", "h"))

    @settings(deadline=None)  # a loaded machine may be slow at any moment
    @given(
        st.lists(st.builds(ParsedInstance, input=TEXTS, output=TEXTS), max_size=12),
        st.integers(min_value=1, max_value=6),
        st.integers(),
    )
    def test_what_is_kept_violates_no_filter(
        self, instances: list[ParsedInstance], limit: int, seed: int
    ) -> None:
        def judge() -> list[InstanceVerdict]:
            return filter_instances(
                instances,
                settings=InstanceFilters(max_instances=limit),
                rng=random.Random(seed),
            )

        verdicts = judge()
        assert verdicts == judge()
        assert [verdict.instance for verdict in verdicts] == instances
        assert all(verdict.kept == (verdict.reason is None) for verdict in verdicts)
        kept = [verdict.instance for verdict in verdicts if verdict.kept]
        assert len(kept) == len(set(kept)) <= limit
        outputs: dict[str, str] = {}
        for instance in kept:
            assert instance.output not in ("", instance.input)
            assert not instance.input.endswith(":")
            assert not instance.output.endswith(":")
            if instance.input:
                assert outputs.setdefault(instance.input, instance.output) == instance.output


class TestSettings:
    """What a user may set."""

    def test_defaults_are_the_published_constants(self) -> None:
        assert InstructionFilters().model_dump() == {
            "min_words": 4,
            "max_words": 150,
            "keywords": (
                *("image", "images", "graph", "graphs", "picture", "pictures", "file", "files"),
                *("map", "maps", "draw", "plot", "go to"),
            ),
            "forbidden_prefixes": ("Write a program",),
            "reject_leading_punctuation": True,
            "reject_non_ascii_start": True,
        }
        assert InstanceFilters().model_dump() == {
            "drop_empty_outputs": True,
            "drop_copied_inputs": True,
            "drop_trailing_colons": True,
            "drop_conflicting_inputs": True,
            "drop_duplicates": True,
            "max_instances": 5,
        }

    @pytest.mark.parametrize("model", [InstructionFilters, InstanceFilters])
    def test_every_field_is_described(
        self, model: type[InstructionFilters] | type[InstanceFilters]
    ) -> None:
        assert all("published" in (f.description or "") for f in model.model_fields.values())

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"min_word": 4}, "min_word"),
            ({"min_words": 0}, "min_words"),
            ({"min_words": 20, "max_words": 10}, "no instruction could pass"),
            ({"keywords": ["draw", " "]}, "keywords"),
            ({"forbidden_prefixes": [""]}, "forbidden_prefixes"),
        ],
    )
    def test_refuses(self, values: dict[str, object], message: str) -> None:
        with pytest.raises(ValidationError, match=message):
            InstructionFilters.model_validate(values)

    def test_refuses_a_limit_below_one(self) -> None:
        with pytest.raises(ValidationError, match="max_instances"):
            InstanceFilters(max_instances=0)

    def test_settings_are_frozen(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(PUBLISHED, "min_words", 3)  # noqa: B010 - a plain assignment is a type error
