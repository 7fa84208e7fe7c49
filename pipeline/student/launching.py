"""Training in several processes, one a GPU, through `accelerate launch`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

STOP_FILE = "stop"
"""Written into the run directory to stop all processes after the step at hand; holds the reason."""
END_FILE = "end.json"
"""Written by the first process when it ends."""


def launch_command(
    run_dir: Path, settings_file: Path, processes: int, port: int, interval_s: float
) -> list[str]:
    """The command that trains a run directory with several processes on this machine.

    Args:
        settings_file: the training settings in force, as JSON.
        port: a free one, by which the processes find each other.
    """
    return [
        *(sys.executable, "-P", "-m", "accelerate.commands.launch"),
        # Of one that is told `--cpu` it starts a single process; see `launch_environment`.
        "--multi_gpu",
        *("--num_processes", str(processes), "--num_machines", "1"),
        *("--num_cpu_threads_per_process", "1", "--main_process_port", str(port)),
        # The dtype is the training's own to choose.
        *("--mixed_precision", "no", "--dynamo_backend", "no"),
        *("--module", "pipeline.student.worker"),
        *(str(run_dir), str(settings_file), str(interval_s)),
    ]


def launch_environment(device: str) -> dict[str, str]:
    """What the processes find in their environment: on CPUs, that they are to stay there."""
    return {"ACCELERATE_USE_CPU": str(device == "cpu").lower()}


def rank() -> int:
    """Number of this process among those of a training, from 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))
