"""Which token ids a student is trained on, for each template."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.student.encoding import encode_examples, join_packed, pack_rows
from pipeline.student.formatting import IGNORED, Encoded, choose_template, get_template
from pipeline.student.records import Example, read_examples, write_examples
from pipeline.student.trained import load_tokenizer
from tests.support.students import bundled_model

ANSWER = "Paris is its capital.\n\nIt has been so for long."
EXAMPLE = Example("i", "r", "Name the capital.", "France", ANSWER)
TALK = Example("i", "r", "Name it.", "", "Paris.", None, "Be brief.", (("And of Peru?", "Lima."),))


@cache
def tokenizer() -> Any:
    return load_tokenizer(bundled_model())


def trained_text(encoded: Encoded) -> list[str]:
    """The runs of tokens that the loss is taken on, each as text."""
    runs: list[list[int]] = []
    before = IGNORED
    for token, label in zip(encoded.input_ids, encoded.labels, strict=True):
        assert label in (IGNORED, token)
        if label != IGNORED:
            if before == IGNORED:
                runs.append([])
            runs[-1].append(token)
        before = label
    return [tokenizer().decode(run) for run in runs]


@pytest.mark.parametrize("name", ["chat", "alpaca"])
def test_loss_is_on_the_response_and_the_token_that_ends_it(name: Any) -> None:
    template = get_template(name)
    encoded = template.encode(tokenizer(), EXAMPLE)
    assert trained_text(encoded) == [f"{ANSWER}<|im_end|>"]
    assert encoded.labels[-1] == tokenizer().eos_token_id
    # What stands before the response are the very ids that the student is asked with.
    prompt = template.render_prompt(tokenizer(), EXAMPLE.instruction, EXAMPLE.input)
    asked = template.encode_prompt(tokenizer(), prompt)
    assert encoded.input_ids[: len(asked)] == asked
    assert encoded.labels[: len(asked)] == [IGNORED] * len(asked)
    assert encoded.labels[len(asked)] != IGNORED
    answer = tokenizer()(ANSWER, add_special_tokens=False).input_ids
    assert encoded.input_ids[len(asked) :] == [*answer, tokenizer().eos_token_id]


@pytest.mark.parametrize("name", ["chat", "alpaca"])
def test_every_answer_of_a_conversation_is_trained_and_nothing_else(name: Any) -> None:
    encoded = get_template(name).encode(tokenizer(), TALK)
    assert trained_text(encoded) == ["Paris.<|im_end|>", "Lima.<|im_end|>"]
    text = tokenizer().decode(encoded.input_ids)
    assert text.index("Be brief.") < text.index("Name it.") < text.index("And of Peru?")


def test_chat_prompt_is_the_models_own_and_joins_instruction_and_input() -> None:
    prompt = get_template("chat").render_prompt(tokenizer(), "Sort.", "b, a", "Be brief.")
    assert prompt == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nSort.\nb, a<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_alpaca_prompt_has_an_input_section_only_where_there_is_an_input() -> None:
    template = get_template("alpaca")
    with_input = template.render_prompt(tokenizer(), "Sort.", "b, a")
    assert with_input.endswith("### Instruction:\nSort.\n\n### Input:\nb, a\n\n### Response:")
    without = template.render_prompt(tokenizer(), "Sort.", " ")
    assert without.endswith("### Instruction:\nSort.\n\n### Response:")
    assert "### Input" not in without


def test_a_tokenizer_without_a_template_gets_alpaca_and_refuses_chat() -> None:
    bare = load_tokenizer(bundled_model())
    assert choose_template(bare, "auto").name == "chat"
    bare.chat_template = None
    assert choose_template(bare, "auto").name == "alpaca"
    with pytest.raises(UsageError, match="no chat template"):
        choose_template(bare, "chat")


def test_a_template_without_an_end_token_gets_the_models() -> None:
    bare = load_tokenizer(bundled_model())
    bare.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    encoded = get_template("chat").encode(bare, EXAMPLE)
    assert encoded.labels[-1] == bare.eos_token_id


def test_a_template_that_rewrites_the_past_is_refused() -> None:
    bare = load_tokenizer(bundled_model())
    bare.chat_template = (
        "{{ messages | length }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    )
    with pytest.raises(UsageError, match="rewrites what was said before"):
        get_template("chat").encode(bare, TALK)


def test_too_long_examples_are_truncated_or_dropped_and_counted() -> None:
    template = get_template("chat")
    whole = template.encode(tokenizer(), EXAMPLE)
    size = len(whole.input_ids)
    asked = size - whole.trained_tokens
    cut = encode_examples(tokenizer(), template, [EXAMPLE, EXAMPLE], size - 3, "truncate")
    assert (cut.truncated, cut.dropped) == (2, 0)
    assert cut.rows[0].input_ids == whole.input_ids[: size - 3]
    assert cut.rows[0].trained_tokens == whole.trained_tokens - 3
    dropped = encode_examples(tokenizer(), template, [EXAMPLE], size - 3, "drop")
    assert (len(dropped.rows), dropped.truncated, dropped.dropped) == (0, 0, 1)
    # Of a prompt that fills the context nothing can be learned.
    nothing = encode_examples(tokenizer(), template, [EXAMPLE], asked, "truncate")
    assert (len(nothing.rows), nothing.dropped) == (0, 1)
    fits = encode_examples(tokenizer(), template, [EXAMPLE], size, "drop")
    assert fits.rows == (whole,)


def test_packed_rows_hold_every_example_once_and_learn_nothing_across_borders() -> None:
    rows = [Encoded([n, *range(100, 100 + n)], [n, *range(100, 100 + n)]) for n in range(1, 9)]
    packed = pack_rows(rows, 12)
    assert sorted(len(row.input_ids) for place in packed for row in place) == list(range(2, 10))
    assert all(sum(len(row.input_ids) for row in place) <= 12 for place in packed)
    assert len(packed) == 4  # 44 tokens in rows of 12 need four
    joined = join_packed([rows[1], rows[2]])
    assert joined["input_ids"] == [2, 100, 101, 3, 100, 101, 102]
    assert joined["labels"] == [IGNORED, 100, 101, IGNORED, 100, 101, 102]
    assert joined["seq_lengths"] == [3, 4]


def test_examples_survive_their_file(tmp_path: Any) -> None:
    path = tmp_path / "examples.jsonl"
    path.write_bytes(write_examples([EXAMPLE, TALK]))
    assert read_examples(path) == [EXAMPLE, TALK]
    path.write_bytes(path.read_bytes() + b'{"instruction": "x"}\n')
    with pytest.raises(UsageError, match="line 3"):
        read_examples(path)
