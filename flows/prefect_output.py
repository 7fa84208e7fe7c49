"""What a flow prints goes to its worker. A worker that is killed must not take its flows with it."""

from __future__ import annotations

import os


def outlive_worker() -> None:
    """Have the process of a flow run go on when nobody reads what it prints any more.

    Prefect prints its logs by Rich, which raises SystemExit where the pipe is broken, in whichever
    thread logs. That would pass for being told to stop, and end the run. Logs reach Prefect's server
    all the same. Only where a worker executes the flow: people who close a pipe mean it.
    """
    if "PREFECT__FLOW_RUN_ID" not in os.environ:
        return
    from rich.console import Console

    Console.on_broken_pipe = _go_on_in_silence  # type: ignore[assignment,method-assign]


def _go_on_in_silence(console: object) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
