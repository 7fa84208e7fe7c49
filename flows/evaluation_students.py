"""The students answer: served by vLLM, the adapter proven first, or through Transformers."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.evaluation_journal import Nobody, Nowhere, StageJournal, is_answered, take_recorded
from flows.evaluation_plan import EvaluationPlan, limits_of
from flows.execution import drive
from flows.runs import Listener
from pipeline.config import Settings
from pipeline.errors import EvoloomError, InterruptedRunError
from pipeline.records import Address, Outcome
from pipeline.run.driver import RunEnd
from pipeline.run.sender import Teacher
from pipeline.sections import CapSettings
from pipeline.student.evaluation.machine import Question, QuestionMachine
from pipeline.student.evaluation.questions import (
    StudentSide,
    loss_stage,
    student_questions,
)
from pipeline.student.evaluation.records import STUDENTS, Student
from pipeline.student.methods import get_method, load_causal_model
from pipeline.student.serving import proof
from pipeline.student.serving.local import LocalStudent, response_logprobs
from pipeline.student.serving.proof import Logprobs, Proof
from pipeline.student.serving.requests import StudentPrompts
from pipeline.student.serving.served import (
    ServedStudent,
    adapter_rank,
    fitting_rank,
    load_adapter,
    score_now,
    unload_adapter,
)
from pipeline.student.trained import (
    TrainingRecord,
    load_base_model,
    load_student,
    load_tokenizer,
    merge_student,
)
from pipeline.teacher.client import TeacherClient
from pipeline.teacher.engine import Engine, EngineError, lease_engine
from pipeline.teacher.engine_settings import EngineSettings
from store.checked_lines import write_atomically
from store.evaluations import ANSWERS, SERVING, RecordedAnswers
from store.journal import FileJournal
from store.run_writer import HeldRun

if TYPE_CHECKING:
    from torch import nn

ServedCallback = Callable[[Student, "ServedPlace"], None]


@dataclass(frozen=True, slots=True)
class ServedPlace:
    """Where a served student answers."""

    base_url: str
    model: str
    max_length: int
    concurrency: int
    """Requests that it may be sent at once."""


@dataclass(frozen=True, slots=True)
class StudentAnswers:
    """What came of every question to the students."""

    answers: Mapping[tuple[Student, tuple[int, int]], Outcome]
    losses: Mapping[tuple[Student, tuple[int, int]], Outcome]
    recorded_from: Mapping[tuple[Student, int], tuple[str, ...]]
    """By student and file, the earlier evaluations that answers were taken from."""


class InterruptedPhaseError(EvoloomError):
    """Raised when a phase ends early; carries how."""

    def __init__(self, end: RunEnd) -> None:
        super().__init__(end.reason or end.state)
        self.end = end


class Students:
    """The two students of an evaluation, asked phase by phase; answers are journaled as they come."""

    def __init__(
        self, run: HeldRun, plan: EvaluationPlan, settings: Settings, listener: Listener
    ) -> None:
        self._run = run
        self._plan = plan
        self._settings = settings
        self._listener = listener
        record = plan.record
        self._prompts = StudentPrompts(load_tokenizer(record.base_folder), record.template)
        self._questions = {
            student: student_questions(
                plan.items,
                StudentSide(student, self.served_name(student), plan.keys[student]),
                self._prompts,
                limits_of(settings),
            )
            for student in STUDENTS
        }

    def served_name(self, student: Student) -> str:
        """The name that a student is asked under: the training run's for the tuned one."""
        record = self._plan.record
        return record.base_name if student == "base" else record.run_id

    def answer(self, while_served: ServedCallback | None = None) -> StudentAnswers:
        """Have both students answer what is not answered yet.

        Args:
            while_served: called with each served student, while it is; it needs both served.

        Raises:
            UnprovenStudentError: the served student is not the one that was trained.
            InterruptedPhaseError: told to stop, or the engine stays away.
        """
        journal = FileJournal(self._run.path / ANSWERS)
        try:
            asyncio.run(self._take_recorded(journal))
            waiting = [student for student in STUDENTS if self._is_waiting(journal, student)]
            if waiting or while_served is not None:
                ways = {"adapter": self._with_adapter, "merged": self._with_merged,
                        "transformers": self._with_transformers}  # fmt: skip
                ways[self._plan.serving](journal, while_served)
            else:
                self._note_serving(None)
            return self._collect(journal)
        finally:
            journal.close()

    def _is_waiting(self, journal: FileJournal, student: Student) -> bool:
        return not is_answered(journal, self._questions[student])

    async def _take_recorded(self, journal: FileJournal) -> None:
        keys = {key for keys in self._plan.keys.values() for key in keys.values()}
        recorded = RecordedAnswers(self._run.path.parent, keys, but_for=self._run.path.name)
        questions = [question for student in STUDENTS for question in self._questions[student]]
        await take_recorded(journal, recorded, questions)

    def _with_adapter(self, journal: FileJournal, while_served: ServedCallback | None) -> None:
        plan, record = self._plan, self._plan.record
        rank = fitting_rank(adapter_rank(record.adapter_dir))
        with tempfile.TemporaryDirectory(dir=self._run.path, prefix=".scaled-") as name:
            scaled = Path(name)
            proof.scale_adapter(record.adapter_dir, scaled, proof.SCALE)
            self._listener.message("scoring the proof's continuations with PEFT")
            reference = self._reference(record.adapter_dir)
            reference_scaled = self._reference(scaled)
            reference_base = self._reference_base()
            with self._engine({"enable_lora": True, "max_lora_rank": rank}) as engine:
                tuned, scaled_name = self.served_name("tuned"), f"{record.run_id}-x8"
                load_adapter(engine.base_url, tuned, record.adapter_dir)

                def served_scaled() -> Logprobs:
                    load_adapter(engine.base_url, scaled_name, scaled)
                    try:
                        return self._served(engine, scaled_name)
                    finally:
                        unload_adapter(engine.base_url, scaled_name)

                found = proof.prove_adapter(
                    base=self._served(engine, self.served_name("base")),
                    served=self._served(engine, tuned),
                    reference=reference,
                    served_scaled=served_scaled,
                    reference_scaled=lambda: reference_scaled,
                    reference_base=reference_base,
                )
                self._note_serving(found)
                both = [question for student in STUDENTS for question in self._questions[student]]
                self._drive_served(engine, both, journal)
                for student in STUDENTS:
                    self._tell(while_served, student, engine, plan)

    def _with_merged(self, journal: FileJournal, while_served: ServedCallback | None) -> None:
        plan, record = self._plan, self._plan.record
        self._listener.message("merging the student into a checkpoint")
        with tempfile.TemporaryDirectory(dir=self._run.path, prefix=".merged-") as name:
            merged = Path(name)
            merge_student(record, merged)
            reference = self._reference(record.adapter_dir)
            reference_base = self._reference_base()
            with self._engine({}) as engine:
                base = self._served(engine, self.served_name("base"))
                self._drive_served(engine, self._questions["base"], journal)
                self._tell(while_served, "base", engine, plan)
            more = {"model_path": merged, "model": self.served_name("tuned")}
            with self._engine(more) as engine:
                served = self._served(engine, self.served_name("tuned"))
                found = proof.prove_merged(
                    base=base, served=served, reference=reference, reference_base=reference_base
                )
                self._note_serving(found)
                self._drive_served(engine, self._questions["tuned"], journal)
                self._tell(while_served, "tuned", engine, plan)

    def _with_transformers(self, journal: FileJournal, while_served: ServedCallback | None) -> None:
        record = self._plan.record
        self._note_serving(None)
        for student in STUDENTS:
            if not self._is_waiting(journal, student):
                continue
            self._listener.message(f"the {student} student answers through Transformers")
            model = _on_device(
                load_base_model(record) if student == "base" else load_student(record)[0]
            )
            local = LocalStudent(model, self._prompts.tokenizer)
            self._drive(local, self._questions[student], journal, concurrency=1)
            del local, model
            _free_memory()

    def _tell(
        self, callback: ServedCallback | None, student: Student, engine: Engine,
        plan: EvaluationPlan,
    ) -> None:  # fmt: skip
        if callback is not None:
            length = _context_length(plan.record.base_folder, self._settings.engine)
            # Benchmarks ask for log-probabilities of prompts, too.
            most = 1 if plan.serving == "adapter" else self._settings.evaluation.concurrency
            place = ServedPlace(engine.base_url, self.served_name(student), length, most)
            callback(student, place)

    @contextmanager
    def _engine(self, more: Mapping[str, Any]) -> Iterator[Engine]:
        settings = student_engine(self._plan.record, self._settings.engine, self._run.path)
        settings = settings.model_copy(update=more)
        with lease_engine(settings, self._listener.message) as engine:
            yield engine

    def _served(self, engine: Engine, name: str) -> Logprobs:
        requests = proof.score_requests(self._prompts, name)
        return [score_now(engine.base_url, request) for request in requests]

    def _reference(self, adapter: Path) -> Logprobs:
        """What PEFT computes, on the unquantised base that the engine serves."""
        record = self._plan.record
        method = get_method(record.method)
        settings = method.settings_type(**record.method_settings)
        return self._computed(lambda: method.load(self._load_base(), adapter, settings))

    def _reference_base(self) -> Logprobs | None:
        """What Transformers computes of the base, where rounding makes a difference."""
        return None if self._plan.record.dtype == "float32" else self._computed(self._load_base)

    def _load_base(self) -> Any:
        import torch

        record = self._plan.record
        return load_causal_model(record.base_folder, getattr(torch, record.dtype))

    def _computed(self, load: Callable[[], Any]) -> Logprobs:
        model = _on_device(load())
        model.eval()
        values = [
            response_logprobs(model, request.token_ids, request.start)
            for request in proof.score_requests(self._prompts, "reference")
        ]
        del model
        _free_memory()
        return values

    def _drive_served(
        self, engine: Engine, questions: Sequence[Question], journal: FileJournal
    ) -> None:
        def check() -> None:
            try:
                engine.check()
            except EngineError as exc:
                raise InterruptedRunError(
                    f"{exc}; nothing that was answered is lost, the same command goes on"
                ) from exc

        async def ask(some: Sequence[Question], settings: Settings) -> RunEnd:
            async with TeacherClient(engine.base_url, settings.teacher) as client:
                return await self._driven(ServedStudent(client, check), some, journal, settings)

        losses = frozenset(loss_stage(student) for student in STUDENTS)
        concurrency = self._settings.evaluation.concurrency
        for is_loss in (False, True):
            some = [question for question in questions if (question.stage in losses) == is_loss]
            # With adapters on, vLLM 0.32 on the CPU dies of a prompt whose log-probabilities are
            # asked for in one batch with another request (`add_lora_logits` takes the rows of the
            # batch for those of the prompt).
            alone = is_loss and self._plan.serving == "adapter"
            self._end(asyncio.run(ask(some, self._student_settings(1 if alone else concurrency))))

    def _drive(
        self, teacher: Teacher, questions: Sequence[Question], journal: FileJournal,
        *, concurrency: int, is_quiet: bool = False,
    ) -> None:  # fmt: skip
        settings = self._student_settings(concurrency)
        self._end(asyncio.run(self._driven(teacher, questions, journal, settings, is_quiet)))

    async def _driven(
        self, teacher: Teacher, questions: Sequence[Question], journal: FileJournal,
        settings: Settings, is_quiet: bool = False,
    ) -> RunEnd:  # fmt: skip
        machine = QuestionMachine(questions)
        show = Listener().progress if is_quiet else self._listener.progress
        return await drive(
            self._run, machine, settings, teacher, on_progress=show,
            journal=StageJournal(journal, machine.stages), sink=Nowhere(),
        )  # fmt: skip

    def _end(self, end: RunEnd) -> None:
        if end.state != "completed":
            raise InterruptedPhaseError(end)

    def _student_settings(self, concurrency: int) -> Settings:
        """Settings under which a student is asked: nobody pays, so that no cap holds."""
        teacher = self._settings.teacher.model_copy(
            update={"base_url": None, "api_key": None, "api": "completions",
                    "drop_parameters": (), "concurrency": concurrency}
        )  # fmt: skip
        return self._settings.model_copy(update={"teacher": teacher, "caps": CapSettings()})

    def _note_serving(self, found: Proof | None) -> None:
        path = self._run.path / SERVING
        if found is None and path.exists():
            return  # an earlier start of this evaluation has proven it
        value = {
            "serving": self._plan.serving,
            "dtype": self._plan.record.dtype,
            "proof": None if found is None else asdict(found),
        }
        write_atomically(path, json.dumps(value, indent=2).encode() + b"\n")

    def _collect(self, journal: FileJournal) -> StudentAnswers:
        """Read everything from the journal, checked against the requests as they are now."""
        answers: dict[tuple[Student, tuple[int, int]], Outcome] = {}
        losses: dict[tuple[Student, tuple[int, int]], Outcome] = {}
        sources: dict[tuple[Student, int], set[str]] = {}
        for student in STUDENTS:
            # The driver checks each answer against its request; there is nothing to be told of it.
            self._drive(Nobody(), self._questions[student], journal, concurrency=1, is_quiet=True)
            for question in self._questions[student]:
                entry = journal.get(Address(question.stage, question.position))
                assert entry is not None
                file, number = question.position
                is_loss = question.stage == loss_stage(student)
                (losses if is_loss else answers)[student, (file, number)] = entry.outcome
                if "recorded_from" in entry.context:
                    sources.setdefault((student, file), set()).add(entry.context["recorded_from"])
        return StudentAnswers(
            answers, losses, {key: tuple(sorted(runs)) for key, runs in sources.items()}
        )


def student_engine(
    record: TrainingRecord, settings: EngineSettings, run_dir: Path
) -> EngineSettings:
    """The engine that serves a training's base model, as the engine is set otherwise. It belongs to
    this evaluation alone: what somebody else asks meanwhile could be scored in one batch with ours.
    """
    return settings.model_copy(
        update={
            "state_dir": run_dir / "engine",
            "model_path": record.base_folder,
            "model": record.base_name,
            # The proof compares with PEFT in the same number format.
            "dtype": record.dtype,
            "max_model_len": _context_length(record.base_folder, settings),
        }
    )


def _context_length(base_folder: Path, settings: EngineSettings) -> int:
    """The longest prompt and answer together: as set, and no more than the model knows."""
    config = json.loads((base_folder / "config.json").read_bytes())
    known = config.get("max_position_embeddings")
    return min(settings.max_model_len, int(known)) if known else settings.max_model_len


def _on_device(model: nn.Module) -> nn.Module:
    """The model on the GPU, if there is one and it is not there already."""
    import torch

    is_there = next(model.parameters()).is_cuda
    return model if is_there or not torch.cuda.is_available() else model.to(torch.device("cuda"))


def _free_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
