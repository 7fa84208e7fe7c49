"""Settings of the local engine: vLLM, started and stopped by evoloom itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/evoloom`, or `~/.cache/evoloom` where that is unset."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "evoloom"


class EngineSettings(BaseModel):
    """The engine that answers when no `teacher.base_url` is set."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    cache_dir: Path = Field(default_factory=default_cache_dir)
    """Where the unpacked model lies and, unless `state_dir` says otherwise, the engine's state."""
    state_dir: Path | None = None
    """Where lease, log and process record of running engines lie; unset: `<cache_dir>/engine`.
    Commands that name the same one share engines. It must be on a local disk (file locks)."""
    model_path: Path | None = None
    """A Hugging Face model folder to serve; unset: the bundled SmolLM2-135M-Instruct."""
    model: str = Field(default="smollm2-135m-instruct", min_length=1)
    """The name under which the engine serves the model."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Number format of weights and computation. `auto`: bfloat16 on a GPU and on a CPU that computes
    in it, float32 on any other CPU, where it reads a prompt five times as fast."""
    max_model_len: PositiveInt = 8192
    """Longest prompt and completion together, in tokens; the bundled model knows up to 8192."""
    max_num_seqs: PositiveInt = 64
    """Requests computed at once; more wait inside the engine."""
    kv_cache_gib: PositiveFloat = 2.0
    """Memory for the key-value cache, in GiB. The bundled model needs 0.18 GiB for 8192
    tokens in bfloat16, twice that in float32. Not used where `extra_args` gives the engine a share of
    the GPU's memory, `--gpu-memory-utilization`."""
    threads: int = Field(default=0, ge=0)
    """CPU threads that compute; 0: one for each core, at most 8. Without effect on a GPU."""
    enforce_eager: bool = True
    """Run the model without compiling it. Compiling needs a C++ compiler and a longer start."""
    enable_lora: bool = False
    """Let LoRA adapters be loaded while the engine runs (`POST /v1/load_lora_adapter`): each answers
    under its own name, next to the model. `evoloom evaluate` turns it on for its own engine."""
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 16
    """Largest rank of an adapter that can be loaded; memory is set aside for it."""
    max_loras: PositiveInt = 2
    """Adapters computed at once; requests for more wait. Memory is set aside for each."""
    extra_args: tuple[str, ...] = ()
    """Appended to vLLM's command line, such as `["--seed", "1"]`; see `vllm serve --help`."""
    port: int = Field(default=0, ge=0, le=65535)
    """Port on 127.0.0.1; 0: a free one."""
    start_timeout_s: PositiveFloat = 600.0
    """Seconds a command waits until the engine answers."""
    stop_grace_s: PositiveFloat = 10.0
    """Seconds from asking the engine's processes to end (SIGTERM) until they are killed."""

    def resolved_state_dir(self) -> Path:
        """The folder that holds one folder of state for each distinct engine."""
        return self.state_dir if self.state_dir is not None else self.cache_dir / "engine"
