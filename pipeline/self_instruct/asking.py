"""The requests of Self-Instruct's three stages: prompt, decoding, sampling seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.asking import RequestMaker, StageModel
from pipeline.decoding import StageDecoding
from pipeline.prompting import PromptBook
from pipeline.records import Address
from pipeline.run.requests import TeacherRequest
from pipeline.self_instruct.plan import SelfInstructPlan
from pipeline.self_instruct.settings import SelfInstructSettings
from pipeline.self_instruct.shots import shown_text

_SAMPLE = "Name three rivers of Europe."


def check_prompts(
    book: PromptBook,
    settings: SelfInstructSettings,
    shots: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    """Render each prompt once with what the stages give it.

    Raises:
        UsageError: a template uses what it is not given, fails, or does not show its task.
    """
    book.check(
        "instruction_generation", _SAMPLE, shots=[_SAMPLE] * settings.shots,
        numbering=settings.numbering, classification_only=settings.classification_seeds_only,
    )  # fmt: skip
    for name, shot_file in PROMPT_SHOTS.items():
        book.check(name, _SAMPLE, shots=shots[shot_file], instruction=_SAMPLE)


PROMPT_SHOTS = {
    "classification_detection": "shots_classification",
    "input_first": "shots_input_first",
    "output_first": "shots_output_first",
}
"""The shots of the prompts that always show the same ones."""


class Asker:
    """Makes the request of an address from the texts that it is about."""

    def __init__(self, plan: SelfInstructPlan) -> None:
        self._plan = plan
        teacher = StageModel(plan.model, plan.api, plan.drop_parameters)
        self._maker = RequestMaker.of(plan.templates, teacher, plan.run_seed, plan.stages)

    def generation(self, address: Address, shots: list[str]) -> TeacherRequest:
        """Ask for new instructions, given the texts of the shots."""
        settings = self._plan.settings
        return self._request(
            address,
            "instruction_generation",
            settings.generation,
            shots=[shown_text(shot) for shot in shots],
            numbering=settings.numbering,
            classification_only=settings.classification_seeds_only,
        )

    def classification(self, address: Address, instruction: str) -> TeacherRequest:
        """Ask whether an instruction is a classification task."""
        name = "classification_detection"
        shots = self._plan.shots[PROMPT_SHOTS[name]]
        decoding = self._plan.settings.classification
        return self._request(address, name, decoding, shots=shots, instruction=instruction)

    def instances(
        self, address: Address, instruction: str, is_classification: bool
    ) -> TeacherRequest:
        """Ask for instances, output-first for a classification task, else input-first."""
        name = "output_first" if is_classification else "input_first"
        settings = self._plan.settings
        decoding = settings.output_first if is_classification else settings.input_first
        shots = self._plan.shots[PROMPT_SHOTS[name]]
        return self._request(address, name, decoding, shots=shots, instruction=instruction)

    def _request(
        self, address: Address, prompt: str, decoding: StageDecoding, **values: Any
    ) -> TeacherRequest:
        return self._maker.make(address, prompt, decoding, **values)
