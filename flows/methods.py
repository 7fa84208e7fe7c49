"""The methods there are: how each makes its manifest and its machine. A new method is one entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.judging import build_judge_machine
from flows.sources import copy_against, copy_source, read_against
from pipeline.config import Settings
from pipeline.curation import judge_manifest
from pipeline.curation.judge_machine import JudgeMachine
from pipeline.errors import UsageError
from pipeline.estimates import Estimate
from pipeline.evol_instruct import manifest as evol_instruct
from pipeline.evol_instruct.estimate import estimate_evol_instruct
from pipeline.evol_instruct.machine import EvolInstructMachine
from pipeline.run.machine import Machine
from pipeline.self_instruct import manifest as self_instruct
from pipeline.self_instruct.estimate import estimate_self_instruct
from pipeline.self_instruct.machine import SelfInstructMachine
from pipeline.teacher.served import ServedModel
from store.run_writer import SOURCE

Files = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Method:
    """One kind of run."""

    kind: str
    stages: tuple[str, ...]
    """Stages that ask a teacher, in the order in which they are sent."""
    copy_files: Callable[[Settings], dict[str, bytes]]
    """Copies of what the run stands on, for its directory, by file name."""
    build_manifest: Callable[[str, Settings, ServedModel, Files], dict[str, Any]]
    """(run id, settings, model, files) to manifest."""
    build_machine: Callable[[Mapping[str, Any], Path], Machine]
    """(manifest, run directory) to a machine that has seen nothing."""
    estimate: Callable[[Mapping[str, Any], Files], Estimate]
    """(manifest, files) to what the run would take."""

    def check(self, run_id: str, settings: Settings) -> dict[str, bytes]:
        """Check the user's input before any wait; returns the files.

        Raises:
            UsageError: seeds, source or templates are not usable.
        """
        files = self.copy_files(settings)
        self.build_manifest(run_id, settings, ServedModel(""), files)
        return files


def _against(settings: Settings) -> dict[str, bytes]:
    return copy_against(settings.store.path, settings.novelty.against)


def _self_instruct_manifest(
    run_id: str, settings: Settings, model: ServedModel, files: Files
) -> dict[str, Any]:
    return self_instruct.build_manifest(run_id, settings, model)


def _self_instruct_machine(manifest: Mapping[str, Any], run_dir: Path) -> Machine:
    return SelfInstructMachine(self_instruct.plan_of(manifest, read_against(run_dir)))


def _self_instruct_estimate(manifest: Mapping[str, Any], files: Files) -> Estimate:
    return estimate_self_instruct(
        self_instruct.plan_of(manifest, []), Settings(**manifest["config"]).estimate
    )


def _evol_instruct_files(settings: Settings) -> dict[str, bytes]:
    return {SOURCE: copy_source(settings), **_against(settings)}


def _evol_instruct_manifest(
    run_id: str, settings: Settings, model: ServedModel, files: Files
) -> dict[str, Any]:
    return evol_instruct.build_manifest(run_id, settings, model, files[SOURCE])


def _evol_instruct_machine(manifest: Mapping[str, Any], run_dir: Path) -> Machine:
    source = (run_dir / SOURCE).read_bytes()
    return EvolInstructMachine(evol_instruct.plan_of(manifest, source, read_against(run_dir)))


def _evol_instruct_estimate(manifest: Mapping[str, Any], files: Files) -> Estimate:
    plan = evol_instruct.plan_of(manifest, files[SOURCE], [])
    return estimate_evol_instruct(plan, Settings(**manifest["config"]).estimate)


def _no_start(*unused: Any) -> Any:
    raise UsageError("a judgement is started by `evoloom curate`, with a recipe that asks for it")


METHODS = {
    method.kind: method
    for method in (
        Method(
            self_instruct.KIND,
            SelfInstructMachine.stages,
            _against,
            _self_instruct_manifest,
            _self_instruct_machine,
            _self_instruct_estimate,
        ),
        Method(
            evol_instruct.KIND,
            EvolInstructMachine.stages,
            _evol_instruct_files,
            _evol_instruct_manifest,
            _evol_instruct_machine,
            _evol_instruct_estimate,
        ),
        Method(
            judge_manifest.KIND,
            JudgeMachine.stages,
            _no_start,
            _no_start,
            build_judge_machine,
            _no_start,
        ),
    )
}


def method_of(manifest: Mapping[str, Any]) -> Method:
    """The method of a run.

    Raises:
        UsageError: this evoloom does not execute runs of that kind.
    """
    method = METHODS.get(manifest["kind"])
    if method is None:
        raise UsageError(
            f"run {manifest['run_id']} is of kind '{manifest['kind']}'; this evoloom executes "
            f"{', '.join(METHODS)}"
        )
    return method
