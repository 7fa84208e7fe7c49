"""The sections of the settings that are not a method's own.

A field marked `OPERATIONAL` may be changed on `resume`; every other field is pinned in the manifest
(DESIGN.md, Manifest), because it decides what the data is.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic import SecretStr as Secret

OPERATIONAL: dict[str, Any] = {"operational": True}
Name = Annotated[str, StringConstraints(min_length=1)]
Api = Literal["completions", "chat"]
StructuredOutput = Literal["auto", "choice", "json_schema", "off"]
Parameter = Literal["temperature", "top_p", "frequency_penalty", "presence_penalty", "stop", "seed"]


class Section(BaseModel):
    """A group of settings: frozen, and a name it does not know is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class RunSettings(Section):
    """What a run is asked for."""

    target: PositiveInt = 100
    """How many admitted instructions with at least one instance the run makes."""
    seed: int | None = Field(default=None, ge=0)
    """Seed of every random draw and of the sampling seeds sent; unset: a fresh one, so that two
    nights differ."""
    window: PositiveInt | None = None
    """How many generation positions may be ahead of the last one applied; unset:
    min(512, max(2, target // 8))."""
    ceiling: PositiveInt = 20
    """The run gives up after `ceiling * target` generation completions."""
    grace_s: NonNegativeFloat = Field(default=30.0, json_schema_extra=OPERATIONAL)
    """Seconds given to requests in flight when the run is told to stop (SIGTERM, SIGINT)."""
    progress_interval_s: PositiveFloat = Field(default=2.0, json_schema_extra=OPERATIONAL)
    """Seconds between two progress records."""


def check_address(value: str | None) -> str | None:
    """An address of an API as it is.

    Raises:
        ValueError: it is none, or holds a user or a password.
    """
    if value is None:
        return None
    expected = "an address such as http://127.0.0.1:8000/v1 is expected"
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as exc:  # a port that is no number, or too large; half of an IPv6 address
        raise ValueError(f"{expected} ({exc})") from exc
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(expected)
    if parts.username or parts.password:
        # It would stand in the manifest and in messages.
        raise ValueError("an address must hold no user or password; use teacher.api_key")
    return value


class StageTeacher(Section):
    """What is different for one stage."""

    model: str | None = Field(default=None, min_length=1)
    """Model of this stage; unset: `teacher.model`, or the only one that its own `base_url` lists."""
    base_url: str | None = Field(default=None, json_schema_extra=OPERATIONAL)
    """Address of its endpoint; unset: the teacher's endpoints."""
    api_key_variable: str | None = Field(default=None, json_schema_extra=OPERATIONAL)
    """Name of the environment variable that holds its key, such as `OPENAI_API_KEY`; unset: the
    teacher's key where it is asked at the teacher's address, none at an address of its own."""
    api: Api | None = None
    """Kind of its API; unset: `teacher.api`."""
    structured_output: StructuredOutput | None = None
    """How its judgements are held to their form; unset: `teacher.structured_output`."""
    drop_parameters: tuple[Parameter, ...] | None = None
    """Request parameters that its endpoint refuses; unset: `teacher.drop_parameters`."""

    _check_address = field_validator("base_url")(check_address)

    @field_validator("api_key_variable")
    @classmethod
    def _check_variable(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError(
                "the name of an environment variable is expected, such as OPENAI_API_KEY, not a key; "
                "yours is not shown here"
            )
        return value

    @property
    def is_set(self) -> bool:
        """Whether anything is different."""
        return any(getattr(self, name) is not None for name in type(self).model_fields)


class StageTeachers(Section):
    """Another model, or another endpoint, for single stages. A method takes what is set for the
    stages it has; what is set for others is of other methods."""

    generate: StageTeacher = Field(default_factory=StageTeacher)
    """Self-Instruct: instruction generation."""
    classify: StageTeacher = Field(default_factory=StageTeacher)
    """Self-Instruct: classification detection."""
    instances: StageTeacher = Field(default_factory=StageTeacher)
    """Self-Instruct: instances."""
    evolve: StageTeacher = Field(default_factory=StageTeacher)
    """Evol-Instruct: evolutions."""
    judge: StageTeacher = Field(default_factory=StageTeacher)
    """Evol-Instruct: judging a child against its parent."""
    respond: StageTeacher = Field(default_factory=StageTeacher)
    """Evol-Instruct: responses to evolved instructions."""
    respond_source: StageTeacher = Field(default_factory=StageTeacher)
    """Evol-Instruct: responses to source instructions."""
    rate: StageTeacher = Field(default_factory=StageTeacher)
    """Evol-Instruct: difficulty of evolved instructions."""
    rate_source: StageTeacher = Field(default_factory=StageTeacher)
    """Evol-Instruct: difficulty of source instructions."""
    quality: StageTeacher = Field(default_factory=StageTeacher)
    """Curation: the judge of quality."""

    def of(self, stage: str) -> StageTeacher | None:
        """What is set for a stage; None where nothing is."""
        chosen = getattr(self, stage, None)
        return chosen if isinstance(chosen, StageTeacher) and chosen.is_set else None


class TeacherSettings(Section):
    """The model that is asked, over the OpenAI API."""

    base_url: str | None = Field(default=None, json_schema_extra=OPERATIONAL)
    """Address of an OpenAI-compatible endpoint, such as `http://127.0.0.1:8000/v1`; unset, and
    `endpoints` too: the local engine (section `engine`) is started and used."""
    endpoints: tuple[str, ...] = Field(default=(), json_schema_extra=OPERATIONAL)
    """Addresses of several endpoints of the same model, in place of `base_url`: each request goes to
    the one with the fewest unanswered. All get the same key. Whichever of the two is set last (file,
    environment, flag) counts."""
    aside_after: PositiveInt = Field(default=3, json_schema_extra=OPERATIONAL)
    """Failures in a row that put one of several endpoints aside; every `probe_interval_s` it is sent
    one request, until it answers."""
    api_key: Secret | None = Field(default=None, json_schema_extra=OPERATIONAL)
    """Bearer key; never written to the manifest. Unset: none is sent."""
    model: str | None = Field(default=None, min_length=1)
    """Name of the model; unset: the local engine's, or the only one that the endpoint lists."""
    api: Api = "completions"
    """`completions` for base models and the bundled one, `chat` for chat models."""
    drop_parameters: tuple[Parameter, ...] = ()
    """Request parameters that the endpoint refuses and that are left out, such as `seed`; all but
    `model` and `max_tokens`, which caps reckon with."""
    structured_output: StructuredOutput = "auto"
    """How judgements and ratings are held to their form: `choice` (vLLM's), `json_schema` (OpenAI's
    `response_format`) or `off`; `auto`: `choice` where the endpoint says that it is vLLM, else
    `off`. Answers are read tolerantly in any case."""
    re_asks: NonNegativeInt = 1
    """How often a judgement or rating that cannot be read is asked for again."""
    concurrency: int = Field(default=16, ge=1, le=1000, json_schema_extra=OPERATIONAL)
    """Requests in flight at once, at most."""
    adapt_concurrency: bool = Field(default=True, json_schema_extra=OPERATIONAL)
    """Whether fewer are in flight while a tenth of the answers or more are failures that pass (429,
    503, time-outs and the like): half as many each time, then step by step more again."""
    min_concurrency: PositiveInt = Field(default=1, json_schema_extra=OPERATIONAL)
    """Requests in flight at once that an overloaded teacher is given all the same."""
    timeout_s: PositiveFloat = Field(default=300.0, json_schema_extra=OPERATIONAL)
    """Seconds until a request without an answer counts as failed and is sent again."""
    retry_base_s: PositiveFloat = Field(default=0.1, json_schema_extra=OPERATIONAL)
    """Seconds before the first retry; doubled each time, with jitter (from half to all of it).
    `Retry-After` takes precedence."""
    retry_max_s: PositiveFloat = Field(default=30.0, json_schema_extra=OPERATIONAL)
    """Longest wait between two retries, in seconds."""
    stuck_after: PositiveInt = Field(default=20, json_schema_extra=OPERATIONAL)
    """Failures of one address, while others are answered, that end the run as stuck."""
    pause_after: PositiveInt = Field(default=8, json_schema_extra=OPERATIONAL)
    """Failures in a row, whatever their address, that pause the run until the teacher is back."""
    probe_interval_s: PositiveFloat = Field(default=5.0, json_schema_extra=OPERATIONAL)
    """Seconds between two attempts to reach the teacher while the run is paused."""
    outage_limit_s: PositiveFloat = Field(default=3600.0, json_schema_extra=OPERATIONAL)
    """Seconds that a run stays paused before it ends as interrupted."""

    stages: StageTeachers = Field(default_factory=StageTeachers)
    """Another model for single stages."""

    _check_address = field_validator("base_url")(check_address)

    @field_validator("endpoints")
    @classmethod
    def _check_endpoints(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for number, address in enumerate(value):
            check_address(address)
            if address in value[:number]:
                raise ValueError(f"{address} is named twice")
        return value

    @model_validator(mode="after")
    def _check_one_of_both(self) -> Self:
        if self.base_url is not None and self.endpoints:
            raise ValueError("base_url and endpoints are both set; set one of them")
        return self

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the teacher is; nothing where it is the local engine."""
        return self.endpoints or ((self.base_url,) if self.base_url is not None else ())

    def for_stage(self, stage: str) -> TeacherSettings:
        """The settings by which a stage is asked. Its key is not read: at an address of its own there
        is none, since the teacher's is nobody else's business."""
        own = self.stages.of(stage)
        if own is None:
            return self
        changes: dict[str, Any] = {
            name: getattr(own, name)
            for name in ("model", "api", "structured_output", "drop_parameters")
            if getattr(own, name) is not None
        }
        if own.base_url is not None:
            is_same = self.addresses == (own.base_url,)
            changes |= {"base_url": own.base_url, "endpoints": ()}
            changes |= {} if is_same else {"model": own.model, "api_key": None}
        return self.model_copy(update=changes)

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, value: Secret | None) -> Secret | None:
        if value is None:
            return None
        key = value.get_secret_value().strip()  # a file it was read from ends in a newline
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError("a key is printable ASCII without blanks; yours is not shown here")
        return Secret(key) if key else None


class CapSettings(Section):
    """Limits on what a run may spend, counted over all its resumes; unset: none."""

    tokens: PositiveInt | None = Field(default=None, json_schema_extra=OPERATIONAL)
    """Prompt and completion tokens."""
    cost: PositiveFloat | None = Field(default=None, json_schema_extra=OPERATIONAL)
    """Money, in the currency of the prices."""


class Prices(Section):
    """What one model costs, per million tokens."""

    prompt: NonNegativeFloat = Field(default=0.0, json_schema_extra=OPERATIONAL)
    """Prompt tokens that the endpoint's cache did not hold."""
    cached_prompt: NonNegativeFloat | None = Field(default=None, json_schema_extra=OPERATIONAL)
    """Prompt tokens that it held; unset: the price of other prompt tokens."""
    completion: NonNegativeFloat = Field(default=0.0, json_schema_extra=OPERATIONAL)
    """Completion tokens."""


class PriceSettings(Prices):
    """What the teacher costs, per million tokens, in any one currency."""

    models: dict[Name, Prices] = Field(default_factory=dict, json_schema_extra=OPERATIONAL)
    """Prices of single models, by the name that requests give: a table `[prices.models."NAME"]` with
    `prompt`, `cached_prompt` and `completion`, which stands for that model in place of all three
    above."""

    def of(self, model: str | None) -> Prices:
        """The prices of a model: its own, or the general ones."""
        return self if model is None else self.models.get(model, self)


class NoveltySettings(Section):
    """What keeps an instruction out that is too near to another."""

    threshold: float = Field(default=0.7, gt=0.0, le=1.0)
    """ROUGE-L F-measure at which a text counts as a near copy (Self-Instruct, section 2.2)."""
    at_threshold: Literal["reject", "admit"] = "reject"
    """What happens at exactly the threshold: `reject` as the paper words it, `admit` as the
    released code does."""
    tokenizer: Literal["rouge", "multilingual"] = "rouge"
    """`rouge` (rouge_score's own, ASCII letters and digits) or `multilingual`."""
    against: tuple[str, ...] = ()
    """Completed runs whose exported instructions block after the seeds; they are never shots."""


class PromptSettings(Section):
    """Where the prompt templates come from."""

    directory: Path | None = None
    """A directory of your own; a template it lacks is taken from the bundled ones."""


class SeedSettings(Section):
    """Where the seed tasks and the shots of the fixed prompts come from."""

    file: Path | None = None
    """Seed tasks, JSON Lines in the field's schema; unset: the bundled 175."""
    shots_directory: Path | None = None
    """A directory with your own `shots_classification.jsonl`, `shots_input_first.jsonl` or
    `shots_output_first.jsonl`; one it lacks is taken from the bundled ones."""


class StoreSettings(Section):
    """Where the data lies."""

    path: Path = Field(default=Path("evoloom.duckdb"), json_schema_extra=OPERATIONAL)
    """The DuckDB file; run directories lie beside it in `PATH.runs/`."""
    ingest_interval_s: PositiveFloat = Field(default=30.0, json_schema_extra=OPERATIONAL)
    """Seconds between two ingests of a run that is going on, at least; longer where ingesting and
    publishing would take more than a twentieth of its time."""
    analyse: bool = Field(default=True, json_schema_extra=OPERATIONAL)
    """Whether what a run, an import or a dataset version made is analysed at its end: verb-noun
    pairs and novelty, as by `evoloom store analyse`."""
    analyse_processes: PositiveInt | None = Field(default=None, json_schema_extra=OPERATIONAL)
    """Processes that parse instructions at once, each with a language model of 200 MB; unset: one a
    core, fewer where there is little to parse."""


class LogSettings(Section):
    """What processes say on standard error."""

    format: Literal["text", "json"] = Field(default="text", json_schema_extra=OPERATIONAL)
    """`json`: a JSON object a line (docs/MONITORING.md), of commands and all processes that they start;
    `text`: lines for people."""
