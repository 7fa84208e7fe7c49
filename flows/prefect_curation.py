"""The Prefect flow `curate`: `evoloom curate` as a flow run, with the version's card as an artifact."""

from __future__ import annotations

from typing import Any

from prefect import flow, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows.command_flow import conclude, run_command, tag_flow_run
from flows.parameters import checked_run_id, curate_arguments, recipe_file, resolve_parameters
from flows.prefect_page import leave_page
from store.datasets import read_card
from store.run_directory import runs_directory

_KIND = "curate"


@flow(
    name=_KIND,
    flow_run_name="curate {name} by {recipe}",
    validate_parameters=True,
    persist_result=False,
)
def curate(
    name: str,
    sources: list[str],
    recipe: str = "clean",
    recipe_text: str | None = None,
    settings: dict[str, Any] | None = None,
    run_id: str | None = None,
) -> Any:
    """Make a dataset version of what a recipe leaves of runs, imports and dataset versions.

    name: of the dataset; its version is added.
    sources: runs that have ended, imports, dataset versions.
    recipe: one that comes with evoloom, or a file that the worker can read.
    recipe_text: the recipe itself, where no file of the worker holds it; `recipe` names it then.
    settings: by section, on top of the worker's environment and file.
    run_id: names this execution; without it, it is the flow run's id.
    """
    store_path = resolve_parameters(settings or {}).store.path
    run_id = checked_run_id(run_id or str(runtime.flow_run.id))
    folder = runs_directory(store_path) / f"{run_id}.flow"
    progress = folder / "progress.jsonl"
    done = run_command(
        _KIND,
        curate_arguments(
            name, sources, recipe_file(recipe, recipe_text, folder), store_path, progress,
            settings or {},
        ),
        store_path=store_path,
        run_id=run_id,
        progress=progress,
    )  # fmt: skip
    if done.is_done:
        # Fails without a server; the version is there.
        version = done.result["run_id"]
        tag_flow_run(f"dataset:{version}")
        _leave_card(store_path, version, run_id, return_state=True)
    return conclude(done, done.result.get("run_id"))


@task(name="report", cache_policy=NO_CACHE, persist_result=False)
def _leave_card(store_path: Any, version: str, run_id: str) -> None:
    """Leave the version's card and its statistics as an artifact, and a link to its report page."""
    card = read_card(runs_directory(store_path), version)
    card += leave_page(store_path, version, run_id, f"{_KIND}-page")
    create_markdown_artifact(card, key="curate-card", description=f"Dataset version {version}")
