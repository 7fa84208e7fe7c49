"""Examples as token ids: the prompt and, with labels, the response and its end (METHODS.md e.1).

A template turns messages into text. `chat` is the base model's own; `alpaca` is for base models that
have none: preamble, instruction, optional input, and the response directly behind `### Response:`
(Alpaca, stanford_alpaca). Each answer is tokenised apart from what precedes it, as it is made when
the student answers, so that training and inference see the same ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import UsageError
from pipeline.student.records import Example, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TemplateName = Literal["chat", "alpaca"]
IGNORED = -100
"""The label of a token that is no part of the loss."""
Message = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as token ids; a label is the id itself, or IGNORED."""

    input_ids: list[int]
    labels: list[int]

    @property
    def trained_tokens(self) -> int:
        """How many tokens the loss is taken on."""
        # The first token has nothing before it that could predict it.
        return sum(label != IGNORED for label in self.labels[1:])


@dataclass(frozen=True, slots=True)
class Template:
    """How a conversation is written; `text` is None where the tokenizer's own template is meant."""

    name: TemplateName
    text: str | None

    def render_prompt(
        self,
        tokenizer: PreTrainedTokenizerBase,
        instruction: str,
        input: str,
        system: str | None = None,
        turns: Sequence[Turn] = (),
    ) -> str:
        """The text of a prompt; it ends where the response starts.

        Args:
            turns: what was said before, as (user, assistant).

        Raises:
            UsageError: the template does not work with this conversation.
        """
        messages = _system(system)
        for user, answer in turns:
            messages += [_message("user", user), _message("assistant", answer)]
        return self._render(tokenizer, [*messages, self._asked(instruction, input)], asks=True)

    def encode_prompt(self, tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
        """The ids of a rendered prompt, as the student is trained on them."""
        # The model's own template writes the first token itself; Alpaca's knows none.
        ids: list[int] = tokenizer(prompt, add_special_tokens=self.text is not None).input_ids
        return _without_end(tokenizer, ids) if self.text is not None else ids

    def encode(self, tokenizer: PreTrainedTokenizerBase, example: Example) -> Encoded:
        """The whole example; labels on each answer and on the token that ends it.

        Raises:
            UsageError: the template does not write an answer where its prompt ends.
        """
        ids: list[int] = []
        labels: list[int] = []
        written = ""
        for before, answer in self._answers(example):
            prompt = self._render(tokenizer, before, asks=True)
            whole = self._render(tokenizer, [*before, _message("assistant", answer)], asks=False)
            if not prompt.startswith(written) or not whole.startswith(prompt):
                raise UsageError(
                    f"the template '{self.name}' of this base model rewrites what was said before, "
                    f"so instance {example.instance_id} cannot be learned turn by turn; "
                    "training.template=alpaca takes another template"
                )
            asked = prompt[len(written) :]
            first = not ids
            segment = self.encode_prompt(tokenizer, asked) if first else _ids(tokenizer, asked)
            reply, ends_at = _reply(tokenizer, whole[len(prompt) :])
            ids += segment + reply
            labels += [IGNORED] * len(segment) + reply[:ends_at]
            labels += [IGNORED] * (len(reply) - ends_at)
            written = whole
        # What a template writes behind the last answer teaches nothing.
        end = len(labels) - next(
            (place for place, label in enumerate(reversed(labels)) if label != IGNORED), 0
        )
        return Encoded(ids[:end], labels[:end])

    def _answers(self, example: Example) -> Iterator[tuple[list[Message], str]]:
        messages = [*_system(example.system), self._asked(example.instruction, example.input)]
        yield list(messages), example.output
        answer = example.output
        for user, following in example.turns:
            messages += [_message("assistant", answer), _message("user", user)]
            yield list(messages), following
            answer = following

    def _asked(self, instruction: str, input: str) -> Message:
        if not input.strip():
            return _message("user", instruction)
        if self.text is not None:
            return {**_message("user", instruction), "input": input}
        # As LLaMA-Factory and evoloom's exports join the two.
        return _message("user", f"{instruction}\n{input}")

    def _render(
        self, tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, asks: bool
    ) -> str:
        try:
            text = tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                chat_template=self.text,
                tokenize=False,
                add_generation_prompt=asks,
            )
        except Exception as exc:
            roles = ", ".join(message["role"] for message in messages)
            raise UsageError(
                f"the template '{self.name}' of this base model refuses a conversation of {roles}: "
                f"{exc}; training.template=alpaca takes another template"
            ) from exc
        return str(text)


def choose_template(
    tokenizer: PreTrainedTokenizerBase, name: Literal["auto", "chat", "alpaca"]
) -> Template:
    """The template of that name; `auto` is the model's own if it has one, else `alpaca`.

    Raises:
        UsageError: `chat` for a tokenizer that has none.
    """
    has_own = bool(getattr(tokenizer, "chat_template", None))
    if name == "chat" and not has_own:
        raise UsageError(
            "training.template=chat: the base model's tokenizer has no chat template; 'alpaca' "
            "works with any model"
        )
    return get_template("chat" if has_own and name != "alpaca" else "alpaca")


def get_template(name: TemplateName, text: str | None = None) -> Template:
    """A template by its resolved name; `text` as a manifest has pinned it."""
    if name == "chat":
        return Template("chat", None)
    return Template("alpaca", text or (resources.files("prompts") / "alpaca.jinja").read_text())


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _system(text: str | None) -> list[Message]:
    return [] if text is None else [_message("system", text)]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


def _without_end(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """A tokenizer that ends every text with an end token must not end the prompt."""
    end: Any = tokenizer.eos_token_id
    return ids[:-1] if len(ids) > 1 and ids[-1] == end else ids


def _reply(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], int]:
    """The ids of an answer with what the template puts behind it, and where what is learned ends:
    behind the last special token, which ends the turn; a template without one gets the model's."""
    ids = _ids(tokenizer, text)
    special = set(tokenizer.all_special_ids)
    for place in reversed(range(len(ids))):
        if ids[place] in special:
            return ids, place + 1
    end: Any = tokenizer.eos_token_id
    if end is None:
        raise UsageError("the base model's tokenizer has no end token; a student could never stop")
    return [*ids, int(end)], len(ids) + 1
