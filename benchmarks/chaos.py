"""A run through every fault that passes: what was injected, what it survived, what it cost.

A faultless teacher and one with the same answers that fails in every way that passes, with latencies
over three orders of magnitude and two outages; the table, and whether the datasets are the same bytes.

    python -m benchmarks.chaos [--small] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.support.chaos import FULL, SMALL, run_through


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="the one that `make test` runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/chaos.json"))
    options = parser.parse_args()
    chaos = SMALL if options.small else FULL
    with tempfile.TemporaryDirectory() as folder:
        faultless = run_through(Path(folder) / "faultless", chaos, faultless=True)
        survival = run_through(Path(folder) / "chaos", chaos)
    if survival.exit_code != 0 or faultless.exit_code != 0:
        raise SystemExit(f"a run did not end well: {faultless.errors}{survival.errors}")
    report = {
        "hardware": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}",
        "chaos": asdict(chaos),
        "faults": {name: dict(counts) for name, counts in survival.fates.items()},
        "seconds_faultless": round(faultless.seconds, 1),
        **survival.summary(),
        "same_bytes": bool(survival.export) and survival.export == faultless.export,
    }
    print(survival.table())
    for name, value in report.items():
        if name not in ("chaos", "faults"):
            print(f"{name:<32} {value}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
