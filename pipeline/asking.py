"""Makes requests: a prompt, the stage's decoding, the address's sampling seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.decoding import StageDecoding
from pipeline.prompting import Api, PromptBook
from pipeline.records import Address
from pipeline.run.requests import TeacherRequest


@dataclass(frozen=True, slots=True)
class RequestMaker:
    """What all requests of a run have in common."""

    book: PromptBook
    api: Api
    model: str
    run_seed: int
    drop_parameters: frozenset[str]

    def make(
        self,
        address: Address,
        prompt: str,
        decoding: StageDecoding,
        extra: Mapping[str, Any] | None = None,
        **values: Any,
    ) -> TeacherRequest:
        """The request of an address.

        Args:
            prompt: the template's name; `values` are its variables.
            extra: further fields of the body, such as `structured_outputs`.
        """
        chosen = decoding.completions if self.api == "completions" else decoding.chat
        parameters: dict[str, Any] = {
            "model": self.model,
            **chosen.model_dump(mode="json"),
            "seed": address.sampling_seed(self.run_seed),
            **(extra or {}),
        }
        if not parameters["stop"]:
            del parameters["stop"]
        for name in self.drop_parameters:
            parameters.pop(name, None)
        return TeacherRequest(address, self.book.render(prompt, **values), parameters)
