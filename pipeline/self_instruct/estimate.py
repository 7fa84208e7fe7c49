"""What a Self-Instruct run would take."""

from __future__ import annotations

import math

from pipeline.estimate_settings import EstimateSettings
from pipeline.estimates import Estimate, StageEstimate, spread
from pipeline.records import Address
from pipeline.run.requests import TeacherRequest
from pipeline.self_instruct.asking import Asker
from pipeline.self_instruct.plan import GENERATE, SelfInstructPlan
from pipeline.self_instruct.pool import TaskPool

_SAMPLED = 50
_LAST = 15
"""The number that a prompt's list goes on to."""


def estimate_self_instruct(plan: SelfInstructPlan, rates: EstimateSettings) -> Estimate:
    """Reckon with the plan's own prompts and the configured rates.

    The target needs `target / with_instances` admitted instructions, each of which is classified
    and gets instances; generation goes on until there are as many.
    """
    asker = Asker(plan)
    pool = TaskPool(plan)
    generations = [
        asker.generation(Address("generate", (g,)), [pool.text_of(s) for s in pool.shots_for(g)])
        for g in range(min(_SAMPLED, plan.window))
    ]
    seeds = [plan.seeds[index].instruction for index in spread(len(plan.seeds), _SAMPLED)]
    classifications = [asker.classification(Address("classify", (0, 0)), text) for text in seeds]
    input_first = [asker.instances(Address("instances", (0, 0)), text, False) for text in seeds]
    output_first = [asker.instances(Address("instances", (0, 0)), text, True) for text in seeds]
    admitted = math.ceil(plan.target / rates.with_instances)
    generated = min(plan.ceiling, math.ceil(admitted / rates.admitted_per_generation))
    share = rates.classification
    prompt = (1 - share) * _mean(input_first, rates) + share * _mean(output_first, rates)
    return Estimate(
        (
            StageEstimate(
                "generate", generated, _mean(generations, rates), rates.generation_tokens
            ),
            StageEstimate(
                "classify", admitted, _mean(classifications, rates), rates.classification_tokens
            ),
            StageEstimate("instances", admitted, prompt, rates.instances_tokens),
        ),
        most_requests=plan.ceiling * (1 + 2 * _most_instructions(plan)),
    )


def _most_instructions(plan: SelfInstructPlan) -> int:
    """How many instructions a generation answer may hold.

    A completion goes on from the shots: behind 8 come 9 to 15. A chat answer may begin a list of
    its own at 1, and behind 15 shots and more no stop string keeps one short.
    """
    model = plan.stages.get(GENERATE)
    left = _LAST - plan.settings.shots
    is_chat = (model.api if model else plan.api) == "chat"
    return _LAST if is_chat or left < 1 else left


def _mean(requests: list[TeacherRequest], rates: EstimateSettings) -> float:
    lengths = [len(request.prompt_text().encode("utf-8", "surrogatepass")) for request in requests]
    return sum(lengths) / len(lengths) / rates.bytes_per_token
