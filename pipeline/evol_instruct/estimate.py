"""What an Evol-Instruct run would take: the published growth, in arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.estimate_settings import EstimateSettings
from pipeline.estimates import Estimate, StageEstimate, spread
from pipeline.evol_instruct.asking import Asker
from pipeline.evol_instruct.plan import EvolPlan
from pipeline.evol_instruct.settings import OPERATORS
from pipeline.records import Address
from pipeline.run.requests import TeacherRequest

_SAMPLED = 200


def estimate_evol_instruct(plan: EvolPlan, rates: EstimateSettings) -> Estimate:
    """Reckon with the plan's own prompts and source, and the configured rates of survival.

    Every round evolves the whole frontier: F requests; a share `evolved` of the children reaches
    the judge, a share `judged` of those is responded to, a share `answered` of those survives. The
    result pool grows by F times the three shares a round (arXiv 2304.12244, section 4.2: 52K
    instructions become 250K in four rounds). What survives is longer than its parent.
    """
    rounds, size = plan.settings.rounds, len(plan.source)
    survival = rates.evolved * rates.judged * rates.answered
    lengths = _Lengths(plan, rates)
    weights = plan.settings.weights.in_order()
    depth = 1 - weights[OPERATORS.index("breadth")] / sum(weights)
    grown = rates.added_tokens * depth
    # Mean length of a parent, over the source, in each round.
    parents = [lengths.instruction + round_ * survival * grown for round_ in range(rounds)]
    parent = sum(parents) / rounds
    child = parent + grown
    evolved = size * rounds
    judged = evolved * rates.evolved
    responded = judged * rates.judged
    stages = [
        StageEstimate("evolve", evolved, lengths.evolve + parent, child),
        StageEstimate("judge", judged, lengths.judge + parent + child, rates.judgement_tokens),
        StageEstimate("respond", responded, lengths.respond + child, rates.response_tokens),
    ]
    unanswered = sum(
        not any(item.output.strip() for item in source.instances) for source in plan.source
    )
    if unanswered:
        stages.append(
            StageEstimate("respond_source", unanswered, lengths.respond + lengths.instruction,
                          rates.response_tokens)
        )  # fmt: skip
    if plan.settings.difficulty:
        stages += [
            StageEstimate("rate_source", size, lengths.rate + lengths.instruction,
                          rates.judgement_tokens),
            StageEstimate("rate", responded * rates.answered, lengths.rate + child,
                          rates.judgement_tokens),
        ]  # fmt: skip
    rated = size * (rounds + 1) if plan.settings.difficulty else 0
    return Estimate(
        stages,
        most_requests=size * rounds * 3 + unanswered + rated,
        pool=[size * (1 + round_ * survival) for round_ in range(rounds + 1)],
    )


class _Lengths:
    """Mean lengths in tokens: of a source instruction, and of each prompt without what it shows."""

    def __init__(self, plan: EvolPlan, rates: EstimateSettings) -> None:
        self._per_token = rates.bytes_per_token
        chosen = spread(len(plan.source), _SAMPLED)
        self.instruction = self._mean([plan.source[index].text for index in chosen])
        asker = Asker(plan)
        address = Address("evolve", (0,))
        weights = plan.settings.weights.in_order()
        parts = [
            weight * self._empty(lambda text, name=operator: asker.evolution(address, name, text))  # type: ignore[misc]
            for operator, weight in zip(OPERATORS, weights, strict=True)
        ]
        self.evolve = sum(parts) / sum(weights)
        self.judge = self._empty(lambda text: asker.judgement(address, text, text))
        self.respond = self._empty(lambda text: asker.response(address, text))
        self.rate = self._empty(lambda text: asker.rating(address, text))

    def _empty(self, request: Callable[[str], TeacherRequest]) -> float:
        return self._mean([request("").prompt_text()])

    def _mean(self, texts: Sequence[str]) -> float:
        sizes = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
        return sum(sizes) / len(sizes) / self._per_token
