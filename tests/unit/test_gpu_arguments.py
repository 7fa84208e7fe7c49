"""deploy/gpu.toml and deploy/cpu.toml: the commands they lead to, read by vLLM's and accelerate's own
parsers. The GPU build of vLLM is another package of the same version, with the same parser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Settings, resolve
from pipeline.errors import UsageError
from pipeline.student.launching import launch_command
from pipeline.teacher import engine_command
from pipeline.teacher.engine_command import EngineCommand, serving_command
from tests.support.cli import clean

_PARSE_ENGINE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = make_arg_parser(FlexibleArgumentParser())
results = []
for argv in json.load(sys.stdin):
    arguments = parser.parse_args(argv)
    validate_parsed_serve_args(arguments)
    results.append({key: value for key, value in vars(arguments).items()
                    if isinstance(value, str | int | float | bool | None | list)})
json.dump(results, open(sys.argv[1], "w"))
"""
KEY = "sk-of-the-teacher"


def settings_of(device: str, checkout: Path, **flags: Any) -> Settings:
    return resolve(flags, checkout / "deploy" / f"{device}.toml").settings


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, checkout: Path) -> Any:
    """The teacher's command on a device."""
    clean(monkeypatch, tmp_path)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")

    def command(device: str, key: str | None = KEY, host: str = "0.0.0.0") -> EngineCommand:
        monkeypatch.setattr(engine_command, "installed_device", lambda: device)
        settings = settings_of(device, checkout, **{"engine.model_path": model})
        return serving_command(settings.engine, host, 8000, key, lambda line: None)

    return command


def test_vllm_takes_the_commands_of_both_devices(served: Any, tmp_path: Path) -> None:
    argvs = [list(served(device).argv[4:]) for device in ("gpu", "cpu")]
    out = tmp_path / "parsed.json"
    done = subprocess.run(
        [sys.executable, "-c", _PARSE_ENGINE, out], input=json.dumps(argvs), text=True,
        capture_output=True, check=False, env={**os.environ, "VLLM_LOGGING_LEVEL": "ERROR"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    gpu, cpu = json.loads(out.read_text())
    for parsed in (gpu, cpu):
        assert (parsed["host"], parsed["port"]) == ("0.0.0.0", 8000)
        assert parsed["model"] == str(tmp_path / "model")
        assert parsed["enable_prompt_tokens_details"] is True
        assert parsed["api_key"] is None  # from the environment, which others cannot read
    assert (gpu["gpu_memory_utilization"], gpu["kv_cache_memory_bytes"]) == (0.9, None)
    assert (gpu["max_num_seqs"], gpu["enforce_eager"], gpu["tensor_parallel_size"]) == (
        256,
        False,
        1,
    )
    assert gpu["dtype"] == "bfloat16"
    assert (cpu["kv_cache_memory_bytes"], cpu["max_num_seqs"]) == (2 * 2**30, 64)
    assert cpu["enable_chunked_prefill"] is False


@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_the_key_is_in_the_environment_alone(served: Any, device: str) -> None:
    command = served(device)
    assert command.environment["VLLM_API_KEY"] == KEY
    assert KEY not in " ".join(command.argv)


def test_without_a_key_it_listens_on_loopback_alone(served: Any) -> None:
    with pytest.raises(UsageError, match=r"--host 0\.0\.0\.0.*EVOLOOM_TEACHER__API_KEY_FILE"):
        served("cpu", key=None)
    assert "VLLM_API_KEY" not in served("cpu", key=None, host="127.0.0.1").environment


@pytest.mark.parametrize("processes", [2, 4])
def test_accelerate_takes_the_command_of_the_training(processes: int, tmp_path: Path) -> None:
    from accelerate.commands.launch import launch_command_parser

    argv = launch_command(tmp_path / "run", tmp_path / "settings.json", processes, 29500, 2.0)
    assert argv[:4] == [sys.executable, "-P", "-m", "accelerate.commands.launch"]
    parsed = launch_command_parser().parse_args(argv[4:])
    assert (parsed.num_processes, parsed.num_machines) == (processes, 1)
    assert (parsed.multi_gpu, parsed.cpu, parsed.main_process_port) == (True, False, 29500)
    assert parsed.mixed_precision == "no"
    assert (parsed.module, parsed.training_script) == (True, "pipeline.student.worker")
    assert parsed.training_script_args == [
        str(tmp_path / "run"), str(tmp_path / "settings.json"), "2.0"
    ]  # fmt: skip


def test_a_gpu_trains_with_a_process_each(checkout: Path) -> None:
    training = settings_of("gpu", checkout).training
    assert training.processes == 0
    assert training.dtype == "bfloat16"
