"""Makes requests: a prompt, the stage's decoding, the address's sampling seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from pipeline.decoding import StageDecoding
from pipeline.prompting import Api, PromptBook, load_templates
from pipeline.records import Address
from pipeline.run.requests import TeacherRequest
from pipeline.sections import TeacherSettings
from pipeline.teacher.served import ServedModel

Structured = Literal["choice", "json_schema", "off"]
"""How judgements are constrained: by choice, by a JSON schema, or not at all."""


@dataclass(frozen=True, slots=True)
class StageModel:
    """Which model answers a stage, and how it is asked: what a manifest pins."""

    model: str
    api: Api
    drop_parameters: frozenset[str] = frozenset()
    structured: Structured = "off"

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(
            row["model"], row["api"], frozenset(row["drop_parameters"]), row["structured_output"]
        )

    def to_json(self) -> dict[str, Any]:
        """As a manifest keeps it."""
        return {
            "model": self.model,
            "api": self.api,
            "drop_parameters": sorted(self.drop_parameters),
            "structured_output": self.structured,
        }


def stage_model(settings: TeacherSettings, stage: str, served: ServedModel) -> StageModel:
    """How a stage is asked.

    Args:
        served: what the pre-flight resolved; before it, the name may be empty.
    """
    chosen = settings.for_stage(stage)
    model = served.stages.get(stage)
    if model is None:
        # Before the pre-flight: only an address of its own knows the name that is not set.
        is_elsewhere = chosen.addresses != settings.addresses
        model = ServedModel(chosen.model or ("" if is_elsewhere else served.name))
    return StageModel(
        model.name, chosen.api, frozenset(chosen.drop_parameters), structured_output(chosen, model)
    )


def structured_output(settings: TeacherSettings, model: ServedModel) -> Structured:
    """How judgements are constrained: as set, or, left open, by choice where the engine is vLLM."""
    wanted = settings.structured_output
    if wanted == "auto":
        return "choice" if model.owner == "vllm" else "off"
    return wanted


def pinned_stages(
    settings: TeacherSettings, stages: Iterable[str], served: ServedModel
) -> dict[str, dict[str, Any]]:
    """What a manifest keeps of the stages that are asked in another way than the rest."""
    return {
        stage: stage_model(settings, stage, served).to_json()
        for stage in stages
        if settings.stages.of(stage) is not None
    }


def read_stages(manifest: Mapping[str, Any]) -> dict[str, StageModel]:
    """What `pinned_stages` made; nothing in manifests of before there were any."""
    return {
        stage: StageModel.from_json(row) for stage, row in manifest.get("stage_models", {}).items()
    }


def model_of(manifest: Mapping[str, Any], stage: str) -> str:
    """The model that a run asks at a stage."""
    own = manifest.get("stage_models", {}).get(stage)
    return str(own["model"] if own else manifest.get("model") or "")


def apis_of(settings: TeacherSettings, stages: Iterable[str]) -> list[Api]:
    """The kinds of API that a run's stages need prompts for."""
    return sorted({settings.for_stage(stage).api for stage in stages})


def load_stage_templates(
    names: Sequence[str],
    settings: TeacherSettings,
    stages: Iterable[str],
    directory: Path | None,
) -> dict[str, str]:
    """Texts of the templates for every kind of API that the stages need; see `load_templates`."""
    texts: dict[str, str] = {}
    for api in apis_of(settings, stages):
        texts |= load_templates(names, api, directory)
    return texts


@dataclass(frozen=True, slots=True)
class RequestMaker:
    """What all requests of a run have in common."""

    books: Mapping[Api, PromptBook]
    teacher: StageModel
    run_seed: int
    stages: Mapping[str, StageModel] = field(default_factory=dict)
    """Those that are asked in another way than `teacher`."""

    @classmethod
    def of(
        cls,
        templates: Mapping[str, str],
        teacher: StageModel,
        run_seed: int,
        stages: Mapping[str, StageModel] | None = None,
    ) -> Self:
        """A maker with the prompts compiled, for the kinds of API that are needed."""
        own = dict(stages or {})
        apis = {model.api for model in (teacher, *own.values())}
        names = {PromptBook.api_of(file_name) for file_name in templates}
        books = {api: PromptBook(templates, api) for api in sorted(apis & names)}
        return cls(books, teacher, run_seed, own)

    def model_of(self, stage: str) -> StageModel:
        """How a stage is asked."""
        return self.stages.get(stage, self.teacher)

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
        asked = self.model_of(address.stage)
        chosen = decoding.completions if asked.api == "completions" else decoding.chat
        parameters: dict[str, Any] = {
            "model": asked.model,
            **chosen.model_dump(mode="json"),
            "seed": address.sampling_seed(self.run_seed),
            **(extra or {}),
        }
        if not parameters["stop"]:
            del parameters["stop"]
        for name in asked.drop_parameters:
            parameters.pop(name, None)
        return TeacherRequest(address, self.books[asked.api].render(prompt, **values), parameters)
