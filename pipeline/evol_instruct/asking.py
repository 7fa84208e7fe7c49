"""The requests of Evol-Instruct: evolve, judge, respond, rate."""

from __future__ import annotations

from typing import Any

from pipeline.asking import RequestMaker, StageModel
from pipeline.evol_instruct.judging import judgement_fields, rating_fields
from pipeline.evol_instruct.operators import draw_format
from pipeline.evol_instruct.plan import (
    EVOLVE_PROMPTS,
    JUDGE_PROMPT,
    RATE_PROMPT,
    RESPOND_PROMPT,
    EvolPlan,
)
from pipeline.evol_instruct.settings import Operator
from pipeline.prompting import PromptBook
from pipeline.records import Address
from pipeline.run.requests import TeacherRequest

_SAMPLE = "Name three rivers of Europe."
_CHILD = "Name three rivers of Europe that cross a border."


def check_prompts(book: PromptBook) -> None:
    """Render each prompt once with what the stages give it.

    Raises:
        UsageError: a template uses what it is not given, fails, or does not show its instruction.
    """
    for operator, name in EVOLVE_PROMPTS.items():
        extra = {"data_format": "JSON data"} if operator == "complicate_input" else {}
        book.check(name, _SAMPLE, instruction=_SAMPLE, **extra)
    for shown in (_SAMPLE, _CHILD):
        book.check(JUDGE_PROMPT, shown, first=_SAMPLE, second=_CHILD, structured="off")
    book.check(RESPOND_PROMPT, _SAMPLE, instruction=_SAMPLE)
    book.check(RATE_PROMPT, _SAMPLE, instruction=_SAMPLE, structured="off")


class Asker:
    """Makes the request of an address from the texts that it is about."""

    def __init__(self, plan: EvolPlan) -> None:
        self._plan = plan
        teacher = StageModel(plan.model, plan.api, plan.drop_parameters, plan.structured)
        self._maker = RequestMaker.of(plan.templates, teacher, plan.run_seed, plan.stages)

    def evolution(self, address: Address, operator: Operator, parent: str) -> TeacherRequest:
        """Ask for a child of `parent`."""
        plan = self._plan
        values: dict[str, Any] = {}
        if operator == "complicate_input":
            values["data_format"] = draw_format(plan.run_seed, address.position[0], plan.settings)
        name = EVOLVE_PROMPTS[operator]
        decoding = plan.settings.evolution
        return self._maker.make(address, name, decoding, None, instruction=parent, **values)

    def judgement(self, address: Address, parent: str, child: str) -> TeacherRequest:
        """Ask whether the child asks for the same as its parent."""
        plan = self._plan
        structured = self._maker.model_of(address.stage).structured
        fields = judgement_fields(structured)
        return self._maker.make(
            address, JUDGE_PROMPT, plan.settings.judgement, fields,
            first=parent, second=child, structured=structured,
        )  # fmt: skip

    def response(self, address: Address, instruction: str) -> TeacherRequest:
        """Ask for the response to an instruction, which is all that the prompt holds."""
        decoding = self._plan.settings.response
        return self._maker.make(address, RESPOND_PROMPT, decoding, instruction=instruction)

    def rating(self, address: Address, instruction: str) -> TeacherRequest:
        """Ask how difficult an instruction is."""
        plan = self._plan
        structured = self._maker.model_of(address.stage).structured
        fields = rating_fields(structured)
        return self._maker.make(
            address, RATE_PROMPT, plan.settings.rating, fields,
            instruction=instruction, structured=structured,
        )  # fmt: skip
