"""What the manifests of all methods have in common."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from pipeline.config import Settings, dump
from pipeline.errors import UsageError

FORMAT = 1


def common_parts(
    run_id: str, kind: str, settings: Settings, model: str, derivation_version: int
) -> dict[str, Any]:
    """The keys that every manifest has; `run.seed` unset draws a fresh one."""
    run_seed = secrets.randbits(31) if settings.run.seed is None else settings.run.seed
    return {
        "format": FORMAT,
        "run_id": run_id,
        "kind": kind,
        "evoloom": version("evoloom"),
        "derivation_version": derivation_version,
        "created_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "run_seed": run_seed,
        "target": None,
        "window": None,
        "ceiling": None,
        "model": model,
        "rederived_from": None,
        "novelty_against": list(settings.novelty.against),
        "config": dump(settings),
    }


def check_derivation(manifest: Mapping[str, Any], derivation_version: int) -> None:
    """Refuse a manifest of another derivation version.

    Raises:
        UsageError: the same answers would give other rows now.
    """
    if manifest["derivation_version"] != derivation_version:
        raise UsageError(
            f"run {manifest['run_id']} was started under derivation version "
            f"{manifest['derivation_version']}, this evoloom has {derivation_version}: resuming "
            "would mix two. Resume with the evoloom that started it, or use `evoloom rederive`"
        )
