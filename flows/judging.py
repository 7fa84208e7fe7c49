"""Asking a teacher about candidates: each question is a run of its own kind, `judgement`, so that
what was answered is journaled, costs are counted, and a kill costs nothing that was paid for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows import logs
from pipeline.config import Settings
from pipeline.curation.judge_machine import JudgeMachine
from pipeline.curation.judge_manifest import (
    build_judge_manifest,
    judgement_id,
    judging_plan_of,
    load_judge_templates,
)
from pipeline.curation.judging import STAGE, JudgedText, Judgement, JudgePlan, encode_texts
from pipeline.curation.records import Candidate
from pipeline.errors import EvoloomError, InterruptedRunError
from store.journal import read_entries
from store.pruning import spooled_entries
from store.run_directory import (
    SETTLED_STATES,
    is_run,
    read_manifest,
    read_pruned,
    read_state,
    runs_directory,
)
from store.run_writer import JOURNAL, SOURCE, HeldRun, create_run

if TYPE_CHECKING:
    from pipeline.run.driver import RunEnd


class InterruptedJudgingError(InterruptedRunError):
    """Raised when judging stopped before its end; the same command goes on with it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class TeacherJudge:
    """The judge that recipes ask (`pipeline.curation.context.Judge`)."""

    def __init__(
        self,
        settings: Settings,
        seed: int,
        *,
        on_message: Callable[[str], None] = lambda text: None,
        on_progress: Callable[[dict[str, Any]], None] = lambda record: None,
    ) -> None:
        """
        Args:
            seed: the recipe's; sampling seeds follow from it.
        """
        self._settings = settings
        self._seed = seed
        self._on_message = on_message
        self._on_progress = on_progress
        self.run_ids: list[str] = []
        """The runs that were asked, in order."""

    def check(self, plan: JudgePlan) -> None:
        """Check prompt and settings before any work."""
        load_judge_templates(self._settings, plan)

    def ask(self, plan: JudgePlan, candidates: Sequence[Candidate]) -> Mapping[int, Judgement]:
        """Judgements by the candidates' numbers.

        Raises:
            InterruptedJudgingError: stopped, capped, or the teacher went away.
            EvoloomError: the teacher cannot be asked.
        """
        # Candidates that look the same are asked about once.
        shown = [JudgedText.of(candidate) for candidate in candidates]
        texts = list(dict.fromkeys(shown))
        if not texts:
            return {}
        machine = self._judge(plan, encode_texts(texts))
        place = {text: number for number, text in enumerate(texts)}
        found = {}
        for candidate, text in zip(candidates, shown, strict=True):
            judgement = machine.judgements.get(place[text])
            if judgement is not None:
                found[candidate.number] = judgement
        return found

    def _judge(self, plan: JudgePlan, texts: bytes) -> JudgeMachine:
        settings = self._settings
        store_path = settings.store.path
        run_id = judgement_id(settings, plan, self._seed, self._model_name(), texts)
        self.run_ids.append(run_id)
        logs.about(run_id=run_id, kind="judgement")
        run_dir = runs_directory(store_path) / run_id
        if is_run(store_path, run_id) and read_state(run_dir).state in SETTLED_STATES:
            self._on_message(f"judgements are there already: run {run_id}")
            return _replay(run_dir)
        from flows.execution import execute, open_teacher

        with open_teacher(settings, self._on_message, JudgeMachine.stages) as place:
            if not is_run(store_path, run_id):
                manifest = build_judge_manifest(
                    run_id, settings, plan, self._seed, place.model, texts
                )
                create_run(store_path, manifest, {SOURCE: texts})
            asked = place.model.stages.get(STAGE, place.model)
            self._on_message(f"run {run_id} asks {asked.name}")
            with HeldRun(store_path, run_id) as run:
                machine = build_judge_machine(run.manifest, run.path)
                end = execute(
                    run, machine, settings, place, store_path, on_progress=self._on_progress
                )
        if end.state != "completed":
            raise _interrupted(run_id, end)
        return machine

    def _model_name(self) -> str:
        """What the teacher's model is called, without starting the local engine for it."""
        settings = self._settings
        teacher = settings.teacher.for_stage(STAGE)
        if teacher.model:
            return teacher.model
        if not teacher.addresses:
            engine = settings.engine
            return f"{engine.model} {engine.model_path or 'bundled'} {engine.dtype}"
        from flows.execution import open_teacher

        with open_teacher(settings, stages=JudgeMachine.stages) as place:
            return place.model.stages.get(STAGE, place.model).name


def build_judge_machine(manifest: Mapping[str, Any], run_dir: Path) -> JudgeMachine:
    """The machine of a run of judging, that has seen nothing."""
    return JudgeMachine(judging_plan_of(manifest, (run_dir / SOURCE).read_bytes()))


def _replay(run_dir: Path) -> JudgeMachine:
    entries = list(read_entries(run_dir / JOURNAL))
    if read_pruned(run_dir) is not None:  # perhaps while it was read
        entries = list(spooled_entries(run_dir))
    machine = build_judge_machine(read_manifest(run_dir).raw, run_dir)
    for entry in entries:
        machine.apply(entry)
    return machine


def _interrupted(run_id: str, end: RunEnd) -> EvoloomError:
    from flows.execution import exit_code

    why = f"{end.reason}: {end.error}".replace("RUN", run_id) if end.error else end.reason
    return InterruptedJudgingError(
        f"judging was interrupted ({why}). Nothing that was paid for is lost: the same command goes "
        f"on where it stopped (run {run_id})",
        exit_code(end),
    )
