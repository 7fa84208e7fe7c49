"""The Prefect flow `evaluate-student`: `evoloom evaluate` as a flow run, its table as an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows.command_flow import conclude, run_command, tag_flow_run
from flows.evaluation_report import markdown
from flows.evaluation_results import read_results
from flows.parameters import checked_run_id, evaluate_arguments, resolve_parameters
from flows.prefect_page import leave_link
from store.evaluations import REPORT
from store.run_directory import runs_directory

_KIND = "evaluate-student"


@flow(
    name=_KIND,
    flow_run_name="evaluate-student {training}",
    validate_parameters=True,
    persist_result=False,
)
def evaluate_student(
    training: str, settings: dict[str, Any] | None = None, run_id: str | None = None
) -> Any:
    """Compare a tuned student with its base. Goes on with the evaluation if there is one with this
    id.

    training: a finished training run of the store.
    settings: by section (evaluation, teacher ...), on top of the worker's environment and file.
    run_id: names the evaluation; without it, it is the flow run's id.
    """
    resolved = resolve_parameters(settings or {})
    store_path = resolved.store.path
    run_id = checked_run_id(run_id or str(runtime.flow_run.id))
    done = run_command(
        _KIND,
        evaluate_arguments(training, run_id, store_path, settings or {}),
        store_path=store_path,
        run_id=run_id,
        grace_s=resolved.run.grace_s,
    )
    if done.is_done:
        # Fails without a server; the evaluation is there.
        tag_flow_run(f"training:{training}")
        _leave_report(runs_directory(store_path) / run_id, return_state=True)
    return conclude(done, run_id)


@task(name="report", cache_policy=NO_CACHE, persist_result=False)
def _leave_report(run_dir: Path) -> None:
    """Leave the table, some wins and losses, and where the page is, as an artifact."""
    text = markdown(read_results(run_dir)) + f"\nThe whole report: `{run_dir / REPORT}`\n"
    create_markdown_artifact(
        text, key="evaluate-student-report", description=f"Evaluation {run_dir.name}"
    )
    leave_link(run_dir / REPORT, f"{_KIND}-page", f"The report of evaluation {run_dir.name}")
