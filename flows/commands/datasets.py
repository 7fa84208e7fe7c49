"""`evoloom datasets create`, `list`, `show` and `diff`."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.options import JsonOption, StoreOption, store_path

app = typer.Typer(
    help="Dataset versions: immutable, named, hashed. They go wherever a run goes.",
    no_args_is_help=True,
)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="The dataset's name; its version is added.")],
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="RUN|DATASET...", help="Runs that have ended, imports, versions."),
    ],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a version of all that these runs accepted: NAME@YYYY-MM-DD.K.

    Instructions of the same text become one. Where a version of that name holds the same content
    already, it is named and none is made.
    """
    from flows.analysis import analyse_made
    from flows.datasets import create_dataset
    from flows.datasets_report import print_created

    path = store_path(store)
    result = create_dataset(path, name, inputs)
    print_created(result, path, as_json=as_json)
    analyse_made(path, [result.created.summary.run_id], result.published)


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(help="Only the versions of this dataset.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the versions there are, the oldest of each dataset first."""
    from flows.datasets_report import print_list
    from store.datasets import list_datasets

    print_list(list_datasets(store_path(store), name), as_json=as_json)


@app.command("show")
def show(
    dataset: Annotated[str, typer.Argument(help="A version, or a name for its newest.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a version's card: what it holds, from which runs, its statistics, its hash."""
    from flows.datasets_report import print_dataset
    from store.datasets import read_summary
    from store.run_directory import runs_directory

    path = store_path(store)
    print_dataset(read_summary(runs_directory(path), dataset), path, as_json=as_json)


@app.command("diff")
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A version, a dataset's name or a run.")],
    b: Annotated[str, typer.Argument(metavar="B", help="What it is compared with.")],
    samples: Annotated[int, typer.Option(min=0, help="How many to show of each kind.")] = 5,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which instructions only A has, which only B, and which outputs changed."""
    from flows.datasets_report import print_diff
    from store.dataset_diff import diff_datasets
    from store.run_directory import runs_directory
    from store.run_names import resolve_run

    runs_dir = runs_directory(store_path(store))
    names = (resolve_run(runs_dir, a), resolve_run(runs_dir, b))
    found = diff_datasets(runs_dir / names[0], runs_dir / names[1])
    print_diff(names, found, samples, as_json=as_json)
