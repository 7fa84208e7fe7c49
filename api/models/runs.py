"""Runs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from api.models.common import NameText, RunName, Sent, Shown

Settings = dict[str, dict[str, Any]]


class RunBody(Sent):
    """A run to be started."""

    method: Literal["self-instruct", "evol-instruct"]
    run_id: RunName | None = None
    """Names the run; left out: the service gives one."""
    seed_set: NameText | None = None
    """Self-Instruct: what it starts from; left out: the seeds that the service is configured with."""
    source: RunName | None = None
    """Evol-Instruct: a run that has ended, or a dataset version, whose instructions are evolved."""
    target: int | None = Field(default=None, ge=1, le=10**9)
    """Self-Instruct: accepted instructions wanted."""
    rounds: int | None = Field(default=None, ge=1, le=1000)
    """Evol-Instruct: evolutions of each instruction."""
    limit: int | None = Field(default=None, ge=1, le=10**9)
    """Evol-Instruct: source instructions, the first ones."""
    seed: int | None = Field(default=None, ge=0, le=2**63 - 1)
    """Of every random draw; left out: a fresh one."""
    settings: Settings = Field(default_factory=dict)
    """Further settings by section (docs/SETTINGS.md), such as `{"novelty": {"threshold": 0.6}}`. Open
    are self_instruct, evol_instruct, filters, instance_filters, caps and parts of run and novelty."""


class ResumeBody(Sent):
    """How a run is to go on."""

    settings: dict[Literal["caps"], dict[str, Any]] = Field(default_factory=dict)
    """Other caps, such as `{"caps": {"tokens": 2000000}}`; nothing else may change."""


class RunSummary(Shown):
    """A run in a list."""

    run_id: str
    kind: str
    """self-instruct, evol-instruct, import, dataset ..."""
    state: str
    """queued, running, paused, interrupted, cancelled, ceiling, failed or completed."""
    reason: str | None
    target: int | None
    accepted: int | None
    """As far as is known; null before the first progress."""
    surplus: int | None
    seed_set: str | None
    requested_by: str | None
    """Id of the key; null for a run that was not asked for here."""
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    elapsed_s: float | None
    ingest_pending: bool


class RunPage(Shown):
    """A page of runs."""

    items: list[RunSummary]
    next_cursor: str | None


class FunnelStep(Shown):
    """One count of the funnel (docs/STORE.md)."""

    step: int
    subject: str
    stage: str
    outcome: str
    reason: str | None
    count: int


class StageUsage(Shown):
    """What one stage asked, used and cost."""

    stage: str
    requests: int
    answers: int
    refusals: int
    without_usage: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost: float | None
    latency_p50_s: float | None
    latency_p90_s: float | None
    latency_p99_s: float | None
    model: str | None
    """The model that the stage asked."""
    cached_share: float | None
    """Cached tokens over prompt tokens."""
    cost_per_accepted: float | None


class RunDetail(RunSummary):
    """One run."""

    model: str | None
    run_seed: int | None
    rederived_from: str | None
    message: str | None
    """What it waits for, such as the start of the engine, or why it could not go on."""
    progress: dict[str, Any] | None
    """Its newest progress record: `state`, `accepted`, `target`, `share_done`, `remaining_s`, tokens,
    cost, and `stages` with done, known and in flight; null before the first."""
    funnel: list[FunnelStep]
    """As the newest snapshot has it; empty until the run is in one."""
    usage: list[StageUsage]


class RunAccepted(Shown):
    """A run that will be executed."""

    run_id: str
    state: str
    seeds: int | None
    """Seed tasks of the set that it starts from."""
