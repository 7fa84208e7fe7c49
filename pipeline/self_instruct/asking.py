"""The requests of Self-Instruct's three stages: prompt, decoding, sampling seed."""

from __future__ import annotations

from typing import Any

from pipeline.prompting import PromptBook
from pipeline.records import Address
from pipeline.run.requests import TeacherRequest
from pipeline.self_instruct.plan import SelfInstructPlan
from pipeline.self_instruct.settings import StageDecoding
from pipeline.self_instruct.shots import shown_text


class Asker:
    """Makes the request of an address from the texts that it is about."""

    def __init__(self, plan: SelfInstructPlan) -> None:
        self._plan = plan
        self._book = PromptBook(plan.templates, plan.api)

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
        shots = self._plan.shots["shots_classification"]
        decoding = self._plan.settings.classification
        return self._request(
            address, "classification_detection", decoding, shots=shots, instruction=instruction
        )

    def instances(
        self, address: Address, instruction: str, is_classification: bool
    ) -> TeacherRequest:
        """Ask for instances, output-first for a classification task, else input-first."""
        name = "output_first" if is_classification else "input_first"
        settings = self._plan.settings
        decoding = settings.output_first if is_classification else settings.input_first
        shots = self._plan.shots[f"shots_{name}"]
        return self._request(address, name, decoding, shots=shots, instruction=instruction)

    def _request(
        self, address: Address, prompt: str, stage: StageDecoding, **values: Any
    ) -> TeacherRequest:
        plan = self._plan
        decoding = stage.completions if plan.api == "completions" else stage.chat
        parameters: dict[str, Any] = {
            "model": plan.model,
            **decoding.model_dump(mode="json"),
            "seed": address.sampling_seed(plan.run_seed),
        }
        if not parameters["stop"]:
            del parameters["stop"]
        for name in plan.drop_parameters:
            parameters.pop(name, None)
        return TeacherRequest(address, self._book.render(prompt, **values), parameters)
