"""Finds the line of an engine's log that says what went wrong."""

from __future__ import annotations

import re
from pathlib import Path

TAIL_BYTES = 200_000
MAX_CHARS = 300

# "(EngineCore pid=123) ERROR 11-21 04:40:32 [core.py:1512] ValueError: ..."
_PREFIX = re.compile(
    r"^(\([\w .-]+ pid=\d+\) )?((DEBUG|INFO|WARNING|ERROR|CRITICAL)\s+[\d-]+ [\d:.]+ \[[^\]]*\] ?)?"
)
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Died)\b(: |:?$)")
_ARGUMENT_ERROR = re.compile(r"^[\w./-]+(\.py)?: error: ")
# These only say that something else went wrong, or that we or the shell stopped it.
_CONSEQUENCE = re.compile(
    r"Engine core initialization failed|EngineDeadError|WorkerProc initialization failed"
    r"|EngineCore encountered an issue|^KeyboardInterrupt|^SystemExit"
    r"|See (root cause|stack trace)"
)
# pydantic spreads one message over several lines.
_OPEN_ENDED = re.compile(r"validation errors? for ")


def telling_line(log: Path) -> str:
    """The line that names the cause, shortened to `MAX_CHARS`; '' when the log is empty or missing.

    That is the last exception or argument error that is not merely the echo of an earlier one,
    else the last line.
    """
    lines = [_PREFIX.sub("", line).rstrip() for line in _tail(log)]
    lines = [line for line in lines if line.strip()]
    errors = [
        number
        for number, line in enumerate(lines)
        if _EXCEPTION.match(line) or _ARGUMENT_ERROR.match(line)
    ]
    causes = [number for number in errors if not _CONSEQUENCE.search(lines[number])]
    chosen = (causes or errors or [len(lines) - 1])[-1]
    if chosen < 0:
        return ""
    text = lines[chosen].strip()
    if _OPEN_ENDED.search(text):
        text = " ".join([text, *(line.strip() for line in lines[chosen + 1 : chosen + 3])])
    return text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 1] + "…"


def _tail(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
