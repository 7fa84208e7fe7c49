"""`evoloom lineage INSTRUCTION`."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.options import ConfigOption, JsonOption, StoreOption, store_path


def lineage(
    instruction: Annotated[
        str,
        typer.Argument(
            help="Its id (8 digits or more), its address 'RUN evolve/12', or its words."
        ),
    ],
    store: StoreOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the tree that an instruction stands in: what each operator added, round by round.

    Eliminated children are shown with the reason. Reads the published snapshot.
    """
    import json
    from dataclasses import asdict

    from flows.lineage_report import tree_lines
    from store.lineage import read_lineage

    found = read_lineage(store_path(store, config), instruction)
    if as_json:
        nodes = [asdict(node) for node in found.nodes]
        typer.echo(json.dumps({"meant": sorted(found.meant), "nodes": nodes}, ensure_ascii=False))
        return
    for line in tree_lines(found):
        typer.echo(line)
