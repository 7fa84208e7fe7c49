"""Starting and stopping `evoloom up`: what its command does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flows import logs
from flows.prefect_server import configured_url
from flows.up.place import Place, last_line
from flows.up.prefect_api import PrefectApi
from flows.up.runs import marked, stop_runs
from flows.up.services import Plan, services_of
from flows.up.supervisor import UpSupervisor
from pipeline.config import DEFAULT_FILE, PREFIX, Settings
from pipeline.errors import EvoloomError, UsageError
from pipeline.sections import Prices
from pipeline.teacher.engine import engine_status
from pipeline.teacher.engine_settings import EngineSettings

Say = Callable[[str], None]
_POLL_S = 0.1
_ENGINE_END_S = 60.0
_MODEL_PRICES = f"{PREFIX}PRICES__MODELS"


class DetachedFailedError(EvoloomError):
    """Raised when what goes on in the background did not come up."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asked for."""

    settings: Settings
    place: Place
    prefect_port: int
    limit: int
    has_gpu: bool
    has_teacher: bool
    sets: tuple[str, ...]
    config: Path | None


def start(wanted: Wanted, say: Say) -> None:
    """Run everything until SIGTERM or SIGINT.

    Raises:
        UsageError: it runs already, or a port is taken.
        StartFailedError: a service does not come up; what had been started is stopped.
    """
    place = wanted.place
    place.make()
    with place.log("supervisor").open("a", encoding="utf-8", buffering=1) as log:

        def tell(text: str) -> None:
            # The disk may be full, and whoever reads us may have gone; the services have not.
            with contextlib.suppress(OSError):
                log.write(logs.stamped(text) + "\n")
            with contextlib.suppress(OSError):
                say(text)

        try:
            with place.held():
                plan = _plan(wanted)
                supervisor = UpSupervisor(
                    place, services_of(plan), plan.addresses(), wanted.settings.run.grace_s, tell
                )
                supervisor.run(lambda: _announce(plan, tell))
                if plan.has_teacher:
                    _await_engine(wanted.settings.engine, tell)
        except EvoloomError as exc:
            log.write(logs.stamped(f"evoloom: {exc}") + "\n")
            raise


def _await_engine(settings: EngineSettings, tell: Say) -> None:
    """The engine ends some seconds after its last user: nothing is to be left when we are gone. One
    that others use goes on."""
    deadline = time.monotonic() + _ENGINE_END_S
    while (status := engine_status(settings)).state == "stopping" or (
        status.running and status.users == 0
    ):
        if time.monotonic() > deadline:
            tell(f"the engine is still ending; its log is {status.log_path}")
            return
        time.sleep(_POLL_S)


def start_detached(wanted: Wanted, say: Say) -> None:
    """As `start`, in the background; returns when all of it is healthy.

    Raises:
        UsageError: it runs already.
        DetachedFailedError: it does not come up.
    """
    place = wanted.place
    place.make()
    if (living := place.supervisor()) is not None:
        raise UsageError(
            f"`evoloom up` is running already (process {living}, state {place.path}): "
            "`evoloom up --status` shows it, `evoloom down` stops it"
        )
    log = place.log("supervisor")
    log.touch()
    since = log.stat().st_size
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _run_in_background(wanted)
    _await_up(place, child, log, since)
    text = log.read_bytes()[since:].decode("utf-8", "replace")
    for line in text.splitlines():
        say(logs.unstamped(line))
    say(f"it goes on in the background as process {child}; `evoloom down` stops it")


def stop(place: Place, grace_s: float, say: Say) -> None:
    """Stop everything and wait until it is gone.

    Args:
        grace_s: what runs have that a killed supervisor has left.
    """
    if not place.path.is_dir():
        say(f"nothing runs here ({place.path})")
        return
    was_up = False
    while (pid := place.supervisor()) is not None:
        if not was_up:
            was_up = True
            say(f"stopping process {pid}; its log is {place.log('supervisor')}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        time.sleep(_POLL_S)
    left = marked(place.mark)
    if left:
        say(f"{len(left)} processes are left of an `evoloom up` that was killed")
        stop_runs(place.mark, (), (), grace_s, say)
    say("everything is stopped" if was_up or left else f"nothing runs here ({place.path})")


def _plan(wanted: Wanted) -> Plan:
    settings, place = wanted.settings, wanted.place
    url = configured_url()
    prefect_port = None
    if url is not None and place.is_own(url, "prefect", wanted.prefect_port):
        url = None  # exported for the `evoloom up` before this one, whose server is gone
    if url is None:
        prefect_port = place.port("prefect", wanted.prefect_port, "--prefect-port")
        url = f"http://127.0.0.1:{prefect_port}/api"
    elif not PrefectApi(url).is_healthy():
        raise UsageError(
            f"Prefect's server at {url} does not answer. Start it, correct PREFECT_API_URL, or unset "
            "it: `evoloom up` then starts one of its own"
        )
    store = settings.store.path.absolute()
    environment = dict(_variable(text) for text in wanted.sets)
    if settings.prices.models:  # by names whose case a variable of their own would lose
        environment = {name: value for name, value in environment.items()
                       if not name.startswith(f"{_MODEL_PRICES}__")}  # fmt: skip
        environment[_MODEL_PRICES] = _toml(settings.prices.models)
    environment[f"{PREFIX}STORE__PATH"] = str(store)
    if wanted.config is not None:
        environment["EVOLOOM_CONFIG"] = str(wanted.config.absolute())
    elif DEFAULT_FILE.exists():
        environment.setdefault("EVOLOOM_CONFIG", str(DEFAULT_FILE.absolute()))
    return Plan(
        place=place,
        settings=settings.model_copy(
            update={"store": settings.store.model_copy(update={"path": store})}
        ),
        environment=environment,
        prefect_url=url,
        prefect_port=prefect_port,
        api_port=place.port("api", settings.api.port, "--port"),
        pools=("cpu", "gpu") if wanted.has_gpu else ("cpu",),
        limit=wanted.limit,
        has_teacher=wanted.has_teacher and not has_endpoint(settings),
    )


def has_endpoint(settings: Settings) -> bool:
    """Whether the teacher is the user's own, and no local engine is needed."""
    return bool(settings.teacher.base_url or settings.teacher.endpoints)


def _toml(models: Mapping[str, Prices]) -> str:
    """Prices as a TOML table on one line; a JSON string is one of TOML."""
    tables = []
    for name, prices in models.items():
        fields = prices.model_dump(exclude_none=True)
        inner = ", ".join(f"{key} = {float(value)!r}" for key, value in fields.items())
        tables.append(f"{json.dumps(name, ensure_ascii=False)} = {{{inner}}}")
    return f"{{{', '.join(tables)}}}"


def _variable(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return PREFIX + key.strip().upper().replace(".", "__"), value


def _announce(plan: Plan, tell: Say) -> None:
    for name, address in plan.addresses().items():
        tell(f"{name} {address}")
    tell(f"up; logs are in {plan.place.path / 'logs'}")
    if plan.prefect_port is not None:
        tell(f"for commands of yours: export PREFECT_API_URL={plan.prefect_url}")


def _run_in_background(wanted: Wanted) -> None:
    """The child of the fork: never returns."""
    code = 1
    try:
        os.setsid()
        with (
            Path(os.devnull).open("rb") as nothing,
            wanted.place.log("supervisor").open("ab") as log,
        ):
            os.dup2(nothing.fileno(), 0)
            for number in (1, 2):
                os.dup2(log.fileno(), number)
        start(wanted, lambda text: None)
        code = 0
    except EvoloomError as exc:
        code = exc.exit_code
    except BaseException as exc:  # noqa: BLE001  what nobody foresaw is to stand in the log
        logs.tell_exception(exc)
    finally:
        sys.stderr.flush()
        os._exit(code)


def _await_up(place: Place, child: int, log: Path, since: int) -> None:
    try:
        while True:
            ended, code = os.waitpid(child, os.WNOHANG)
            if ended:
                line = logs.unstamped(last_line(log, since)).removeprefix("evoloom: ")
                raise DetachedFailedError(
                    line or f"it ended; see {log}", os.waitstatus_to_exitcode(code) or 1
                )
            status = place.read_status()
            if status is not None and status.pid == child and status.state == "up":
                return
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        raise
