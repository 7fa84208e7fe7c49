"""What a student is asked: a prompt as token ids, to be answered or to be scored.

Ids, not text: the template makes them as training did, and the engine must not make others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.records import Address, Completion
from pipeline.run.requests import TeacherRequest
from pipeline.student.formatting import IGNORED, Template
from pipeline.student.records import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SCORED = "scored"
"""The finish reason of a text that was scored, not made."""


@dataclass(frozen=True, slots=True)
class TokenRequest(TeacherRequest):
    """A prompt to be answered, greedily."""

    token_ids: tuple[int, ...]

    def body(self) -> dict[str, Any]:
        """The JSON body to send."""
        return {**self.parameters, "prompt": list(self.token_ids)}


@dataclass(frozen=True, slots=True)
class ScoreRequest(TokenRequest):
    """A prompt and its response, whose tokens' log-probabilities are asked for.

    `start` is where the response begins in `token_ids`.
    """

    start: int

    def body(self) -> dict[str, Any]:
        """The JSON body to send; 0 asks for the log-probability of the token itself, no others."""
        return {**self.parameters, "prompt": list(self.token_ids), "prompt_logprobs": 0}


@dataclass(frozen=True, slots=True)
class StudentPrompts:
    """Makes a student's requests, alike for training, vLLM and Transformers."""

    tokenizer: PreTrainedTokenizerBase
    template: Template

    def end_ids(self) -> list[int]:
        """The tokens that end an answer: what the student learned to end with, and the model's."""
        encoded = self.template.encode(self.tokenizer, Example("", "", "Say a word.", "", "Word."))
        learned = [label for label in encoded.labels if label != IGNORED][-1]
        eos = self.tokenizer.eos_token_id
        return sorted({learned} | ({int(eos)} if isinstance(eos, int) else set()))

    def answer(
        self, address: Address, model: str, example: Example, max_tokens: int
    ) -> TokenRequest:
        """Ask for the answer to an example's instruction and input; what it answers is not shown."""
        prompt = self.template.render_prompt(
            self.tokenizer, example.instruction, example.input, example.system
        )
        parameters = {
            "model": model,
            "max_tokens": max_tokens,
            "temperature": 0.0,
            "top_p": 1.0,
            # Else vLLM takes it from the model's generation configuration.
            "repetition_penalty": 1.0,
            "stop_token_ids": self.end_ids(),
        }
        ids = tuple(self.template.encode_prompt(self.tokenizer, prompt))
        return TokenRequest(address, prompt, parameters, ids)

    def score(self, address: Address, model: str, example: Example) -> ScoreRequest:
        """Ask how likely an example's response is, end token included."""
        encoded = self.template.encode(self.tokenizer, example)
        labels = encoded.labels
        start = next(place for place, label in enumerate(labels) if label != IGNORED)
        stop = len(labels) - next(
            place for place, label in enumerate(reversed(labels)) if label != IGNORED
        )
        text = self.template.render_prompt(
            self.tokenizer, example.instruction, example.input, example.system
        )
        parameters = {"model": model, "max_tokens": 1, "temperature": 0.0, "top_p": 1.0}
        return ScoreRequest(
            address, text + example.output, parameters, tuple(encoded.input_ids[:stop]), start
        )


def write_logprobs(values: Sequence[float]) -> str:
    """Log-probabilities as the text of a completion."""
    return json.dumps([round(value, 6) for value in values])


def read_logprobs(answer: Completion) -> list[float]:
    """What `write_logprobs` wrote."""
    return [float(value) for value in json.loads(answer.text)]
