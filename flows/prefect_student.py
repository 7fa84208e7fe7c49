"""The Prefect flow `train-student`: `evoloom train` as a flow run, with its losses as an artifact."""

from __future__ import annotations

from typing import Any

from prefect import flow, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows.command_flow import conclude, run_command, tag_flow_run
from flows.parameters import checked_run_id, resolve_parameters, train_arguments
from flows.training_report import result_lines
from pipeline.student.trained import METRICS

_KIND = "train-student"


@flow(
    name=_KIND,
    flow_run_name="train-student on {dataset}",
    validate_parameters=True,
    persist_result=False,
)
def train_student(
    dataset: str,
    settings: dict[str, Any] | None = None,
    preset: bool = False,
    run_id: str | None = None,
) -> Any:
    """Tune a student on a dataset. Goes on with the training if there is one with this id.

    dataset: a version, a run or an import of the store, or an exported file that the worker can read.
    settings: by section (training, methods ...), on top of the worker's environment and file.
    preset: take the training settings that the dataset's recipe recommends.
    run_id: names the training; without it, it is the flow run's id.
    """
    resolved = resolve_parameters(settings or {})
    run_id = checked_run_id(run_id or str(runtime.flow_run.id))
    done = run_command(
        _KIND,
        train_arguments(dataset, run_id, resolved.store.path, settings or {}, preset=preset),
        store_path=resolved.store.path,
        run_id=run_id,
    )
    if done.is_done:
        # Fails without a server; the student is there.
        tag_flow_run(f"dataset:{dataset}")
        _leave_result(run_id, done.result, return_state=True)
    return conclude(done, run_id)


@task(name="report", cache_policy=NO_CACHE, persist_result=False)
def _leave_result(run_id: str, done: dict[str, Any]) -> None:
    """Leave what came out of the training as an artifact, and where it lies."""
    text = "\n".join(f"- {line}" for line in result_lines(done["result"]))
    folder = done["run_directory"]
    where = f"Adapter: `{folder}/adapter`; every step's losses: `{folder}/{METRICS}`"
    create_markdown_artifact(
        f"# {run_id}\n\n{text}\n\n{where}\n",
        key="train-student-result",
        description=f"Training {run_id}",
    )
