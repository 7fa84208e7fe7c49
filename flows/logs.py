"""What processes say on standard error: lines for people, or JSON lines (`log.format`).

One choice serves a process and all that it starts: it is handed on in the environment. A JSON line is an
object with `time`, `level`, `event` and `message`, with `run_id` and `stage` where it is about them, and
what the event brings with it (docs/MONITORING.md).
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import sys
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

VARIABLE = "EVOLOOM_LOG__FORMAT"
Format = Literal["text", "json"]

_PREFECT_NAMES = ("flow_run_id", "flow_run_name", "task_run_name")
FIELDS = "evoloom_fields"
"""The attribute of a log record with the fields of its JSON line: `extra={FIELDS: {...}}`."""
_about: ContextVar[Mapping[str, Any] | None] = ContextVar("evoloom_log_about", default=None)
_log = logging.getLogger("evoloom")


class _Place:
    """Where the settings are, if not where they are looked for."""

    config_file: Path | None = None


def choose(log_format: Format) -> None:
    """Take a format for this process and all that it starts."""
    os.environ[VARIABLE] = log_format


def choose_by(config_file: Path | None) -> None:
    """Look into this TOML file, unless the environment says it; None: into the usual one."""
    _Place.config_file = config_file


def is_json() -> bool:
    """Whether JSON was asked for, by `choose`, the environment or the TOML file."""
    if VARIABLE not in os.environ:
        from pipeline.config import load_settings
        from pipeline.errors import EvoloomError

        # Settings that are wrong are told by whoever needs them.
        with contextlib.suppress(EvoloomError):
            if load_settings(config_file=_Place.config_file).log.format == "json":
                choose("json")
    return os.environ.get(VARIABLE) == "json"


def about(**fields: Any) -> None:
    """Say what further lines of this thread are about, such as `run_id`; they carry it."""
    _about.set({**(_about.get() or {}), **fields})


def tell(text: str, event: str = "message", level: int = logging.INFO, **fields: Any) -> None:
    """Say a line on standard error.

    Args:
        text: for people; what is printed where the format is text.
        event: what kind of line it is, in a word.
        fields: what is in a JSON line besides.
    """
    _write(_as_json(text, event, level, fields) if is_json() else text)


def stamped(text: str) -> str:
    """A line, without its end, of a log file that a process keeps of itself: with its time."""
    if is_json():
        return _as_json(text, "message", logging.INFO, {})
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}"


def unstamped(line: str) -> str:
    """What a line of `stamped` says to people."""
    message = message_of(line)
    return message if message != line else line.partition(" ")[2]


def _as_json(text: str, event: str, level: int, fields: Mapping[str, Any]) -> str:
    record = _log.makeRecord(_log.name, level, "", 0, text, (), None)
    setattr(record, FIELDS, {"event": event, **fields})
    return JsonFormatter().format(record)


def _write(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError as exc:
        # Nobody reads it any more (`2>&1 | head`), or there is no room: what is told of it goes on.
        if exc.errno in (errno.EPIPE, errno.EIO):
            with contextlib.suppress(OSError):  # what is still in the buffer, at exit
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def tell_error(text: str, **fields: Any) -> None:
    """Say why a command ends as it does, as `evoloom: TEXT`."""
    tell_by_name(text, "error", logging.ERROR, **fields)


def tell_by_name(
    text: str, event: str = "message", level: int = logging.INFO, **fields: Any
) -> None:
    """Say a line among those of other programs, as `evoloom: TEXT`."""
    tell(text if is_json() else f"evoloom: {text}", event, level, **fields)


def tell_exception(exc: BaseException) -> None:
    """Say an error that nobody foresaw, with its traceback."""
    if is_json():
        shown = "".join(traceback.format_exception(exc))
        tell(f"{type(exc).__name__}: {exc}", "error", logging.CRITICAL, exception=shown)
    else:
        traceback.print_exception(exc)


def message_of(line: str) -> str:
    """What a line of a process that uses this module says to people."""
    with contextlib.suppress(ValueError):
        value = json.loads(line)
        if isinstance(value, dict) and "message" in value:
            return str(value["message"])
    return line.removeprefix("evoloom: ")


class JsonFormatter(logging.Formatter):
    """Makes a JSON line of a record of anybody's logger; Prefect's and uvicorn's among them."""

    def __init__(self, **unused: Any) -> None:
        """Takes what Prefect's configuration hands to its own formatter."""
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        value: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": "log",
            "logger": record.name,
            "message": record.getMessage(),
            **(_about.get() or {}),
        }
        value |= {name: getattr(record, name) for name in _PREFECT_NAMES if hasattr(record, name)}
        value |= getattr(record, FIELDS, {})
        if record.exc_info:
            value["exception"] = self.formatException(record.exc_info)
        return json.dumps(value, ensure_ascii=False, default=str)


def prefect_environment() -> dict[str, str]:
    """Variables that have Prefect's own processes log as this module does."""
    if not is_json():
        return {}
    return {
        # The key of logging.yml is `formatters.standard.()`, of which a variable's name keeps `_`.
        "PREFECT_LOGGING_FORMATTERS_STANDARD_": f"{__name__}.{JsonFormatter.__name__}",
        "PREFECT_LOGGING_COLORS": "false",
    }
