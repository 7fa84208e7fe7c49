"""Settings of schedules, `evoloom schedule`. They decide nothing about data."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, PositiveInt


class ScheduleSettings(BaseModel):
    """Scheduled flow runs."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    runs_per_store: PositiveInt = 1
    """Scheduled flow runs on the same store that are executed at the same time, whatever their
    schedules; further ones wait. The value given last counts for all schedules of the store."""
