"""`evoloom diversity A [--versus B]`."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.options import ConfigOption, JsonOption, StoreOption, store_path


def diversity(
    dataset: Annotated[
        str, typer.Argument(metavar="RUN|DATASET", help="A run, an import or a dataset version.")
    ],
    versus: Annotated[
        str | None, typer.Option(metavar="RUN|DATASET", help="Another, to be set beside it.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="Rule for verbs and nouns: mended or published.")
    ] = "mended",
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="The spread of embeddings too (extra embeddings).")
    ] = False,
    top: Annotated[int, typer.Option(min=0, help="How many verbs and pairs to show.")] = 10,
    store: StoreOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how varied the accepted instructions are, and what they ask for.

    Of each distinct text once. docs/DIVERSITY.md defines every measure.
    """
    from flows.diversity import measure_diversity
    from flows.diversity_report import print_diversity
    from pipeline.errors import UsageError

    if method not in ("mended", "published"):
        raise UsageError(f"--method must be mended or published, not {method!r}")
    dispersion = None
    if embeddings:
        from pipeline.diversity.embeddings import check_embeddings, embedding_dispersion

        check_embeddings()
        dispersion = embedding_dispersion
    names = [dataset] if versus is None else [dataset, versus]
    found = measure_diversity(
        store_path(store, config),
        names,
        "published" if method == "published" else "mended",
        dispersion,
    )
    print_diversity(found, method, top, as_json=as_json)
