"""Settings of the evaluation of a student."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, StringConstraints, field_validator

from pipeline.sections import OPERATIONAL, Section

BenchmarkName = Annotated[str, StringConstraints(pattern=r"^[\w.+/-]+$")]


class EvaluationSettings(Section):
    """What a tuned student is compared with its base on, and how. Answers are always greedy."""

    held_out: bool = True
    """Whether the held-out instructions of the training run are asked: ROUGE-L, exact match for
    classification, and the perplexity of their responses."""
    tasks: tuple[Path, ...] = ()
    """Files of tasks in the style of Super-NaturalInstructions, JSON Lines (also .gz) with
    `definition`, `input`, `output` (one or a list) and, if they have it, `task` and `category`."""
    user_oriented: bool = True
    """Whether the user-oriented tasks are asked, and judged."""
    user_oriented_file: Path | None = None
    """User-oriented tasks, JSON Lines with `instruction`, `input`, `output`; unset: the bundled."""
    serving: Literal["auto", "merged", "transformers"] = "auto"
    """How the students answer. `auto`: a LoRA adapter in vLLM beside its base; other methods merged
    into a checkpoint that vLLM serves; what cannot be merged through Transformers, base and tuned
    alike. `merged` and `transformers` take that way for any method."""
    limit: PositiveInt | None = None
    """Items asked of each file, drawn with `seed`; unset: all."""
    seed: NonNegativeInt = 0
    """Seed of that draw and of the bootstrap."""
    held_out_max_tokens: PositiveInt = 256
    """Longest answer to a held-out instruction, in tokens."""
    tasks_max_tokens: PositiveInt = 128
    """Longest answer to a task, in tokens (Tk-Instruct's limit; Self-Instruct allowed 1024)."""
    user_oriented_max_tokens: PositiveInt = 512
    """Longest answer to a user-oriented task, in tokens."""
    judge: bool = True
    """Whether the teacher judges the answers to user-oriented tasks in pairs, in both orders."""
    judge_max_tokens: PositiveInt = 16
    """Longest verdict, in tokens."""
    resamples: PositiveInt = 10_000
    """Resamples of the bootstrap."""
    confidence: float = Field(default=0.95, gt=0.0, lt=1.0)
    """What share of the resamples an interval holds."""
    benchmarks: tuple[BenchmarkName, ...] = ()
    """Tasks of lm-evaluation-harness, such as `["mmlu", "gsm8k"]`; needs evoloom[lm-eval]."""
    benchmark_folder: Path | None = None
    """A folder with tasks of your own for lm-evaluation-harness (its `--include_path`)."""
    benchmark_unsafe_code: bool = False
    """Let benchmarks such as `humaneval` execute the code that the students wrote, on this machine."""
    benchmark_limit: PositiveInt | None = None
    """Documents of each benchmark task that are asked, the first; unset: all."""
    concurrency: int = Field(default=16, ge=1, le=1000, json_schema_extra=OPERATIONAL)
    """Requests to the served students in flight at once."""

    @field_validator("tasks", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value

    @field_validator("benchmarks", mode="before")
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        """`mmlu,gsm8k` as lm-evaluation-harness takes it."""
        return tuple(value.split(",")) if isinstance(value, str) else value
