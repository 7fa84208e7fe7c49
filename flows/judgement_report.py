"""What `runs show` says of a run of judging."""

from __future__ import annotations

from pipeline.curation.judging import STAGE
from store.queries import RunDetail


def made_of(detail: RunDetail) -> str:
    """What was rated, in a few words."""
    raw = detail.manifest.raw
    rated = detail.funnel.count("completions", "used", stage=STAGE)
    return (
        f"judgement: {rated} of {raw['texts']} texts rated, each from 1 to 5 in "
        f"{', '.join(raw['judge']['dimensions'])}"
    )


def funnel_lines(detail: RunDetail) -> list[tuple[str, int, int]]:
    """Answers: text, count, depth of indentation."""
    funnel = detail.funnel
    lines = [
        ("texts", detail.manifest.raw["texts"], 0),
        ("requests answered", funnel.count("completions", "requested", stage=STAGE), 0),
        ("rated", funnel.count("completions", "used", stage=STAGE), 1),
    ]
    discarded = funnel.reasons("completions", "discarded", stage=STAGE)
    return lines + [(f"discarded: {reason}", count, 1) for reason, count in discarded.items()]
