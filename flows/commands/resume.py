"""`evoloom resume RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.options import ConfigOption, JsonOption, SetOption, StoreOption, flags, store_path


def resume(
    run: str,
    give_up: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Go on without this address, such as classify/3.1."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="If the run is being executed, follow it, then resume.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    sets: SetOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a run where it stopped, a training from its last checkpoint. Nothing that was paid
    for is asked again.

    Operational settings (concurrency, time-outs, endpoints, keys, prices, caps) may differ from
    the manifest's; any other difference is refused.
    """
    from flows.progress import Display
    from flows.report import finish
    from flows.runs import Listener, is_evaluation, is_training, resume_run
    from pipeline.errors import UsageError
    from pipeline.records import Address

    addresses = set()
    for text in give_up or ():
        try:
            addresses.add(Address.parse(text))
        except ValueError as exc:
            raise UsageError(
                f"--give-up {text}: an address is STAGE/POSITION, such as classify/3.1"
            ) from exc
    given = flags(sets, store)
    place = Path(given["store.path"]) if "store.path" in given else store_path(None, config)
    if is_training(place, run):
        from flows import training_report
        from flows.training import resume_training

        if addresses:
            raise UsageError(f"run {run} is a training: it asks no teacher, and has no addresses")
        with training_report.listening(quiet=quiet) as listener:
            trained = resume_training(run, place, given, config, listener, wait=wait)
        training_report.finish(trained, as_json=as_json)
        return
    if is_evaluation(place, run):
        from flows.evaluation import resume_evaluation
        from flows.evaluation_report import print_result

        if addresses:
            raise UsageError(
                "--give-up is for runs that make instructions; an evaluation needs all"
            )
        with Display(quiet=quiet) as display:
            listener = Listener(display.show, display.message)
            evaluated = resume_evaluation(run, place, given, config, listener)
        print_result(evaluated, as_json=as_json)
        return
    with Display(quiet=quiet) as display:
        result = resume_run(
            run,
            place,
            given,
            give_up=frozenset(addresses),
            wait=wait,
            config_file=config,
            listener=Listener(display.show, display.message),
        )
    finish(result, place, as_json=as_json)
