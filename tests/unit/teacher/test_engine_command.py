"""Every setting reaches the engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.errors import UsageError
from pipeline.teacher import engine_command
from pipeline.teacher.engine import engine_folder
from pipeline.teacher.engine_command import EngineCommand, vllm_command
from pipeline.teacher.engine_settings import EngineSettings


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def command(model_path: Path, **values: Any) -> EngineCommand:
    return vllm_command(EngineSettings(model_path=model_path, **values), lambda line: None)


@pytest.mark.parametrize(
    ("setting", "value", "arguments"),
    [
        ("model", "mine", ["--served-model-name", "mine"]),
        ("dtype", "float32", ["--dtype", "float32"]),
        ("max_model_len", 1024, ["--max-model-len", "1024"]),
        ("max_num_seqs", 7, ["--max-num-seqs", "7"]),
        ("kv_cache_gib", 0.5, ["--kv-cache-memory-bytes", "536870912"]),
        ("enforce_eager", True, ["--enforce-eager"]),
        ("extra_args", ("--enable-lora", "--max-lora-rank"), ["--enable-lora", "--max-lora-rank"]),
    ],
)
def test_setting_is_on_the_command_line(
    model: Path, setting: str, value: object, arguments: list[str]
) -> None:
    argv = list(command(model, **{setting: value}).argv)
    first = argv.index(arguments[0])
    assert argv[first : first + len(arguments)] == arguments


def test_adapters_can_be_loaded_at_run_time_only_where_that_is_wanted(model: Path) -> None:
    without, wanted = command(model), command(model, enable_lora=True, max_lora_rank=64)
    argv = list(wanted.argv)
    first = argv.index("--enable-lora")
    assert argv[first : first + 5] == [
        "--enable-lora", "--max-lora-rank", "64", "--max-loras", "2"
    ]  # fmt: skip
    assert wanted.environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert "--enable-lora" not in without.argv
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in without.environment
    assert engine_folder(EngineSettings(enable_lora=True)) != engine_folder(EngineSettings())


def test_compiling(model: Path) -> None:
    assert "--enforce-eager" not in command(model, enforce_eager=False).argv


def test_threads(model: Path) -> None:
    assert command(model, threads=3).environment["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("fpu avx512f avx512_vnni", "float32"),
        ("fpu avx512f avx512_bf16", "bfloat16"),
        ("fpu amx_bf16 amx_tile", "bfloat16"),
        ("fp asimd bf16", "bfloat16"),
    ],
)
def test_format_that_the_cpu_computes_in(
    model: Path, monkeypatch: pytest.MonkeyPatch, flags: str, dtype: str
) -> None:
    information = model / "cpuinfo"
    information.write_text(f"flags\t: {flags}\n")
    monkeypatch.setattr(engine_command, "CPU_INFORMATION", information)
    argv = command(model, dtype="auto").argv
    assert argv[argv.index("--dtype") + 1] == dtype


def test_prompts_of_seeded_requests_are_never_cut_into_pieces(model: Path) -> None:
    argv = command(model, max_model_len=2048).argv
    assert "--no-enable-chunked-prefill" in argv
    assert argv[argv.index("--max-num-batched-tokens") + 1] == "2048"


def test_gpu_gets_nothing_that_is_for_the_cpu(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_command, "installed_device", lambda: "gpu")
    on_gpu = command(model, threads=3)
    assert not [key for key in on_gpu.environment if "CPU" in key or "OMP" in key]
    assert "--no-enable-chunked-prefill" not in on_gpu.argv
    assert "--distributed-executor-backend" not in on_gpu.argv
    assert on_gpu.argv[on_gpu.argv.index("--dtype") + 1] == "bfloat16"


def test_structured_outputs_have_no_room_for_white_space(model: Path) -> None:
    argv = command(model).argv
    config = json.loads(argv[argv.index("--structured-outputs-config") + 1])
    assert config == {"backend": "xgrammar", "disable_any_whitespace": True}


def test_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"engine\.model_path.*config\.json"):
        command(tmp_path)


def test_nothing_leaves_the_machine(model: Path) -> None:
    environment = command(model).environment
    assert environment["HF_HUB_OFFLINE"] == environment["VLLM_NO_USAGE_STATS"] == "1"


@pytest.mark.parametrize(
    "values",
    [
        {"modle": "x"},
        {"dtype": "int3"},
        {"max_model_len": 0},
        {"threads": -1},
        {"port": 70000},
        {"kv_cache_gib": 0},
        {"model": ""},
    ],
)
def test_settings_that_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EngineSettings(**values)


def test_cache_directory_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert EngineSettings().cache_dir == tmp_path / "evoloom"
    assert engine_folder(EngineSettings()).path.is_relative_to(tmp_path / "evoloom" / "engine")
    elsewhere = EngineSettings(state_dir=tmp_path / "state")
    assert engine_folder(elsewhere).path.is_relative_to(tmp_path / "state")
