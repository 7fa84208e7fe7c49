"""`evoloom train DATASET`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.options import ConfigOption, JsonOption, SetOption, StoreOption


def train(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET|RUN|FILE",
            help="A dataset version, a run or an import of the store; or a file that `evoloom "
            "export --format student` wrote, also on another machine.",
        ),
    ],
    base: Annotated[
        Path | None,
        typer.Option(help="Folder of the base model. [default: the bundled SmolLM2-135M-Instruct]"),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="Method of fine-tuning; see `methods` in the settings. [default: lora]"),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data. [default: 3]")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of all random draws. [default: a fresh one]")
    ] = None,
    preset: Annotated[
        bool,
        typer.Option(
            "--preset",
            help="Take the training settings that the dataset's recipe recommends (`lima` does).",
        ),
    ] = False,
    run_id: Annotated[
        str | None,
        typer.Option(help="Name of the training; one that was begun is gone on with."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    sets: SetOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tune a student on a dataset, on the responses only; some lineages are held out.

    Checks base, method, lengths and memory before it starts. A killed training goes on from its last
    checkpoint with `evoloom resume RUN`. Parameters of a method: --set methods.lora.rank=8.
    """  # fmt: skip
    from flows.options import flags
    from flows.training import start_training
    from flows.training_report import finish, listening

    given = flags(
        sets, store, training__base=base, training__method=method, training__epochs=epochs,
        run__seed=seed,
    )  # fmt: skip
    with listening(quiet=quiet) as listener:
        result = start_training(dataset, given, config, run_id, listener, use_preset=preset)
    finish(result, as_json=as_json)
