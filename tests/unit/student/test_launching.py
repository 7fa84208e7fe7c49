"""Training in several processes: the command that accelerate gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser

from pipeline.student.launching import launch_command


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_accelerate_understands_the_command(device: str) -> None:
    command = launch_command(Path("/r/un"), Path("/s.json"), 4, device, 29511, 2.5)
    assert command[1:4] == ["-P", "-m", "accelerate.commands.launch"]
    read = launch_command_parser().parse_args(command[4:])
    assert (read.num_processes, read.num_machines, read.main_process_port) == (4, 1, 29511)
    assert (read.cpu, read.multi_gpu) == (device == "cpu", device == "cuda")
    assert read.mixed_precision == "no"
    assert read.module
    assert read.training_script == "pipeline.student.worker"
    assert read.training_script_args == ["/r/un", "/s.json", "2.5"]
