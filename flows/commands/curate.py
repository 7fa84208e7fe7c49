"""`evoloom curate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.options import ConfigOption, JsonOption, SetOption, StoreOption, settings_of


def curate(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN|DATASET...", help="Runs that have ended, imports, versions."),
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="A recipe file (TOML), or one that comes with evoloom.")
    ] = "clean",
    name: Annotated[
        str | None, typer.Option(help="The dataset's name; its version is added.")
    ] = None,
    recipes: Annotated[
        bool, typer.Option("--recipes", help="List the recipes that come with evoloom, and stop.")
    ] = False,
    progress: Annotated[
        Path | None, typer.Option(help="A file to append progress records to, JSON lines.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    sets: SetOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a dataset version of what a recipe leaves of what runs accepted.

    A recipe is a list of steps: filters, duplicates, lengths, decontamination, a judge, difficulty,
    diversity, selection. What a step keeps out is kept beside the version with the reason. Given
    again, the command names the version that is there; where it was interrupted, it asks no teacher
    twice.
    """
    from flows import logs
    from flows.analysis import analyse_after
    from flows.curation import curate_dataset
    from flows.curation_report import print_curated, print_recipes, watching
    from pipeline.curation.recipe import load_recipe

    if recipes:
        print_recipes(as_json=as_json)
        return
    if not sources or name is None:
        missing = "a source (a run, an import, a dataset version)" if not sources else "--name NAME"
        raise typer.BadParameter(f"{missing} is needed")
    settings = settings_of(sets, store, config).settings
    chosen = load_recipe(recipe)
    with watching(progress, quiet=quiet) as watcher:
        result = curate_dataset(settings, name, sources, chosen, watcher)
    print_curated(result, settings.store.path, as_json=as_json)
    if result.published.pending is None:
        made = result.created.summary.run_id
        analyse_after(settings.store.path, made, settings, logs.tell)
