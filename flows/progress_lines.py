"""Progress as JSON lines: how far the run is, each stage that moved, warnings and pauses."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from flows import logs

_APART = ("at", "state", "reason", "stages", "warnings", "text")


class ProgressLines:
    """Turns progress records into lines; knows what was said before."""

    def __init__(self) -> None:
        self._state = "running"
        self._stages: dict[str, Any] = {}
        self._warned: set[str] = set()

    def tell(self, record: Mapping[str, Any], text: str) -> None:
        """Say a record.

        Args:
            text: what it comes to in a line for people.
        """
        state, reason = record["state"], record.get("reason")
        if state != self._state:
            is_bad = state in ("paused", "interrupted", "failed")
            level = logging.WARNING if is_bad else logging.INFO
            said = f"{state}: {reason}" if reason else str(state)
            logs.tell(said, "state", level, state=state, reason=reason, before=self._state)
            self._state = state
        for warning in record.get("warnings") or ():
            if warning not in self._warned:
                self._warned.add(warning)
                logs.tell(str(warning), "warning", logging.WARNING)
        values = {key: value for key, value in record.items() if key not in _APART}
        logs.tell(text, "progress", state=state, **values)
        for stage, counts in (record.get("stages") or {}).items():
            if self._stages.get(stage) != counts:
                self._stages[stage] = dict(counts)
                said = f"{stage}: {counts['done']} of {counts['known']} known"
                logs.tell(said, "stage", stage=stage, **counts)
