"""Prefect flows that execute an evoloom command: `curate`, `train-student`, `evaluate-student`.

    @flow(name="curate")
    def curate(...):
        done = run_command("curate", arguments, store_path=..., run_id=...)
        ...                                     # leave artifacts
        return conclude(done, done.result)

The command runs in a process of its own, which outlives the worker. A flow run that is retried, or
started again with the same run id, waits for the process that is there and gives the command again:
so a command given twice has to go on where it stopped, or say that it is done.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import State, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.states import Cancelled, Failed

from flows import logs
from flows.command_child import CommandEnd, CommandFollower
from flows.prefect_output import outlive_worker
from flows.prefect_progress import Courier
from flows.runs import Listener
from pipeline.errors import EvoloomError
from store.run_directory import runs_directory

_LOG_EVERY_S = 30.0


class CommandFailedError(EvoloomError):
    """Raised by a flow whose command failed; the message is the command's."""


@dataclass(frozen=True, slots=True)
class CommandDone:
    """What `run_command` gives: how the command ended, and whether its flow run was cancelled."""

    kind: str
    end: CommandEnd
    is_cancelled: bool

    @property
    def is_done(self) -> bool:
        """Whether the command succeeded."""
        return self.end.exit_code == 0

    @property
    def result(self) -> dict[str, Any]:
        """What the command printed as JSON; empty where it printed none."""
        return self.end.result or {}


class _Call:
    """What the task is told and tells; no dataclass, Prefect looks into those for futures."""

    def __init__(
        self,
        kind: str,
        arguments: Sequence[str],
        folder: Path,
        progress: Path | None,
        grace_s: float,
    ) -> None:
        self.kind = kind
        self.arguments = list(arguments)
        self.folder = folder
        self.progress = progress
        self.grace_s = grace_s
        self.end: CommandEnd | None = None
        self.error: EvoloomError | None = None
        self.caught: BaseException | None = None
        self.is_cancelled = False


def run_command(
    kind: str,
    arguments: Sequence[str],
    *,
    store_path: Path,
    run_id: str,
    progress: Path | None = None,
    grace_s: float = 30.0,
) -> CommandDone:
    """Execute `evoloom ARGUMENTS` for the flow run that calls it, to the command's end.

    Cancelling the flow run, and a signal to the worker, reach the command as SIGTERM; it has
    `grace_s` and half a minute to end by itself, then it is told again, then killed.

    Args:
        kind: what is made, in a word; names the artifact `KIND-progress`.
        arguments: what follows `evoloom`; with `--json` the result is read.
        run_id: what is made once, however often it is tried: names the folder of lock and log,
            `<store>.runs/RUN.flow`.
        progress: the file of progress records, JSON lines with `share_done` (0 to 1) and `text`;
            unset: `progress.jsonl` of the run directory.

    Raises:
        UsageError: the folder cannot be written.
        BaseException: the worker's signal, after the command has ended: Prefect's engine knows
            whether it means a cancellation or a crash.
    """
    logs.about(run_id=run_id, kind=kind)
    outlive_worker()
    tag_flow_run("evoloom", kind, f"run:{run_id}")
    runs_dir = runs_directory(store_path)
    call = _Call(
        kind, arguments, runs_dir / f"{run_id}.flow",
        progress or runs_dir / run_id / "progress.jsonl", grace_s,
    )  # fmt: skip
    _execute(call, return_state=True)
    if call.error is not None:
        raise call.error
    if call.caught is not None:
        raise call.caught
    assert call.end is not None
    return CommandDone(kind, call.end, call.is_cancelled)


def conclude(done: CommandDone, value: Any = None) -> Any:
    """What the flow's function returns after `run_command`: the value, or the state `Cancelled`.

    Raises:
        UsageError: the command's exit code was 2.
        InterruptedRunError: it can be resumed; Prefect tries again where retries are set.
        CommandFailedError: it failed otherwise.
    """
    if done.is_done:
        return value
    if done.is_cancelled:
        return Cancelled(message=f"{done.kind} was cancelled in Prefect: {done.end.message}")
    error = done.end.error()
    assert error is not None
    raise error if type(error) is not EvoloomError else CommandFailedError(str(error))


@task(name="run", cache_policy=NO_CACHE, persist_result=False)
def _execute(call: _Call) -> State[Any] | None:
    """Follow the process that executes the command, to its end."""
    logger = get_run_logger()
    logged_at = float("-inf")

    def on_progress(record: dict[str, Any]) -> None:
        nonlocal logged_at
        if "share_done" in record:
            courier.show(record)
        if time.monotonic() - logged_at >= _LOG_EVERY_S:
            logged_at = time.monotonic()
            logger.info(describe(record))

    with Courier(UUID(runtime.flow_run.id), f"{call.kind}-progress", describe) as courier:
        follower = CommandFollower(
            call.arguments, call.folder, Listener(on_progress, logger.info),
            progress=call.progress, grace_s=call.grace_s, should_stop=courier.cancelled.is_set,
        )  # fmt: skip
        try:
            call.end = follower.run()
        except EvoloomError as exc:
            call.error = exc
        finally:
            call.caught = follower.caught
    call.is_cancelled = courier.cancelled.is_set()  # after its last look
    error = call.error or (call.end.error() if call.end else None)
    return Failed(message=str(error)) if error else None


def describe(record: Mapping[str, Any]) -> str:
    """What a progress record says in a line: its `text`, else its numbers."""
    if "text" in record:
        return str(record["text"])
    return ", ".join(f"{key} {value}" for key, value in record.items()
                     if isinstance(value, int | float | str) and key != "at")  # fmt: skip


def tag_flow_run(*tags: str) -> None:
    """Add tags to the flow run that is executed here; a server that does not take them is let be."""
    try:
        with get_client(sync_client=True) as client:
            flow_run_id = UUID(runtime.flow_run.id)
            # Asked for: what `runtime` knows are the tags that the flow run began with.
            every = {*client.read_flow_run(flow_run_id).tags, *tags}
            client.update_flow_run(flow_run_id, tags=sorted(every))
    except Exception as exc:  # noqa: BLE001  nothing depends on how it is labelled
        get_run_logger().warning("the flow run could not be tagged: %s", exc)
