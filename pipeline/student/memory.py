"""How much memory a training will take at its peak, from the base model's configuration alone.

The published formula (METHODS.md e.2) counts weights, gradients and Adam's two states of what is
trained, activations and 12 bytes a logit. Its activations, 2 L B T H, are those of checkpointed
layers; without checkpointing every layer keeps what its backward pass needs, which is counted here
operation by operation for a pre-norm decoder (attention by a fused kernel, so nothing is quadratic in
the length). The output layer computes only positions with a label (`loop.loss_sum`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.student.batching import LargestBatch

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_ADAM_STATES = 8
"""Bytes of two float32 states for each trained parameter."""
_LOGIT_BYTES = 12
"""Logits, their log-softmax and their gradient in float32 (METHODS.md e.2: 12 B T V)."""
_FUSED_LOGIT_BYTES = 0
"""TRL's kernel on a GPU works on tiles of the logits."""
_OVERHEAD = {"cpu": 96 * 2**20, "cuda": 448 * 2**20}
"""Work space of the kernels, on a GPU also the tiles of the logits, and what the allocator rounds up."""
_MASK_BYTES = {"cpu": 4, "cuda": 1}
"""Of an element of a dropout's mask: in the input's type, or a boolean."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes at the peak, by what they are for."""

    weights: int
    gradients: int
    optimiser: int
    activations: int
    logits: int
    loading: int
    """While the base is read: its weights, and in the host's memory those of the file beside them."""
    overhead: int
    step: int
    """Work space of an optimiser step."""

    @property
    def peak(self) -> int:
        """The largest of: reading the base, the begin of a backward pass, an optimiser step."""
        kept = self.weights + self.optimiser
        backward = kept + self.activations + self.logits
        step = kept + self.gradients + self.step
        return max(self.loading, backward, step) + self.overhead


@dataclass(frozen=True, slots=True)
class TrainingShape:
    """What the memory of a training depends on, beside the base model."""

    trained: int
    """Trained parameters, by the method's formula."""
    trains_base: bool
    batch: LargestBatch
    dtype_bytes: int
    """Of the base's weights and the computation: 4, or 2 for bfloat16."""
    dropout: float
    """The adapter's dropout, which keeps a mask and a copy of each input."""
    accumulates: bool
    checkpointing: bool
    device: str
    quantised_bytes: float | None = None
    """Bytes a frozen matrix' weight, where a method quantises them (QLoRA)."""
    kept_inputs: float = 1.0
    """Of the method; so are the next two. None where nothing is trained beside the weights."""
    kept_outputs: float = 0.0
    kept_weights: float = 0.0


def estimate_memory(
    config: PretrainedConfig, parameters: int, file_bytes: int, shape: TrainingShape
) -> MemoryEstimate:
    """Estimate a training's peak.

    Args:
        parameters: of the base.
        file_bytes: of the base's weight files, which stay mapped while they are read.
    """
    text = config.get_text_config()
    batch = shape.batch
    tokens = batch.examples * batch.length
    base = parameters * (4 if shape.trains_base else shape.dtype_bytes)
    if shape.quantised_bytes is not None:
        # Embeddings and the output layer are not quantised; PEFT holds them in float32.
        embeddings = text.vocab_size * text.hidden_size * (1 if text.tie_word_embeddings else 2)
        base = int((parameters - embeddings) * shape.quantised_bytes) + 4 * embeddings
    weights = base + (0 if shape.trains_base else 4 * shape.trained)
    layers = text.num_hidden_layers
    per_layer = layer_bytes(config, shape) * tokens
    if shape.checkpointing:
        residual = 4 if shape.device == "cpu" else shape.dtype_bytes
        activations = layers * tokens * text.hidden_size * residual + per_layer
    else:
        activations = layers * per_layer
    activations += layers * shape.kept_weights * _Sides.of(config).elements * shape.dtype_bytes
    if shape.trains_base and shape.dtype_bytes == 2:
        # Autocast keeps a copy of each float32 weight in bfloat16 until the backward pass is through.
        activations += 2 * parameters
    logit_bytes = _FUSED_LOGIT_BYTES if shape.device == "cuda" else _LOGIT_BYTES
    kept_gradients = 4 * shape.trained if shape.accumulates else 0
    return MemoryEstimate(
        weights=weights,
        gradients=4 * shape.trained,
        optimiser=_ADAM_STATES * shape.trained,
        activations=int(activations) + kept_gradients,
        logits=batch.trained_tokens * text.vocab_size * logit_bytes,
        loading=base + (file_bytes if shape.device == "cpu" else 0),
        overhead=_OVERHEAD[shape.device],
        # On a GPU all parameters are stepped at once, on a CPU one after the other.
        step=4 * shape.trained if shape.device == "cuda" else 2 * shape.trained,
    )


def layer_bytes(config: PretrainedConfig, shape: TrainingShape) -> float:
    """What one layer keeps for the backward pass, bytes for each token.

    The residual stream and the normalisation compute in float32; matrices in the computation's type.
    """
    sides = _Sides.of(config)
    hidden, query, inner, gated = sides.hidden, sides.query, sides.inner, sides.gated
    wide = shape.dtype_bytes
    # Inputs of both normalisations and, in between, what is normalised.
    norms = 2 * hidden * 4 + (2 * hidden * 4 if shape.trains_base else 0)
    # Query, key and value after rotation, repeated for each query head; the kernel's output and
    # what the output projection reads of it.
    attention = 5 * query * wide
    inputs = 2 * hidden * wide  # of the attention's and the MLP's first matrices
    mlp = (2 * gated) * inner * wide  # before and after the activation, the gate's product
    frozen_on_gpu = shape.device == "cuda" and not shape.trains_base
    if frozen_on_gpu:
        # The GPU's allocator gives back at once what no backward pass reads: a frozen matrix's input.
        attention, inputs, mlp = attention - query * wide, 0, mlp - inner * wide
        if (
            shape.quantised_bytes is not None
        ):  # the norms are in float32 then, and so is what follows
            mlp = mlp * 4 // wide
    kept = float(norms + attention + inputs + mlp)
    if shape.dropout or frozen_on_gpu:
        # Each adapted matrix reads, and drops out, its own copy of the input: the copy and its mask.
        mask = _MASK_BYTES[shape.device] if shape.dropout else 0
        kept += sides.read * (shape.kept_inputs * wide + mask)
    return kept + sides.written * shape.kept_outputs * wide


@dataclass(frozen=True, slots=True)
class _Sides:
    """The widths of a layer, and what its seven matrices (six without a gate) come to."""

    hidden: int
    query: int
    key: int
    inner: int
    gated: int

    @classmethod
    def of(cls, config: PretrainedConfig) -> _Sides:
        text = config.get_text_config()
        hidden, heads = text.hidden_size, text.num_attention_heads
        head = getattr(text, "head_dim", None) or hidden // heads
        keys = getattr(text, "num_key_value_heads", None) or heads
        inner = getattr(text, "intermediate_size", None) or 4 * hidden
        act = getattr(text, "hidden_act", "gelu")
        gated = 2 if act in ("silu", "swish", "gelu_pytorch_tanh") else 1
        return cls(hidden, heads * head, keys * head, inner, gated)

    @property
    def read(self) -> int:
        """Values that they read for a token."""
        return 5 * self.hidden + self.query + self.inner

    @property
    def written(self) -> int:
        """Values that they make for a token."""
        return self.query + 2 * self.key + 2 * self.hidden + self.gated * self.inner

    @property
    def elements(self) -> int:
        """Weights that they have."""
        attention = 2 * self.query + 2 * self.key
        return self.hidden * (attention + (self.gated + 1) * self.inner)


def suggest(
    config: PretrainedConfig, parameters: int, file_bytes: int, shape: TrainingShape, limit: int
) -> dict[str, int]:
    """What would fit into `limit` bytes: a change of settings, as it is typed, to its peak."""
    found: dict[str, int] = {}

    def consider(change: str, **values: object) -> bool:
        from dataclasses import replace

        changed = replace(shape, **values)  # type: ignore[arg-type]
        peak = estimate_memory(config, parameters, file_bytes, changed).peak
        if peak <= limit:
            found[change] = peak
        return peak <= limit

    batch = shape.batch
    for examples in _halves(batch.examples):
        share = examples / batch.examples
        smaller = LargestBatch(examples, batch.length, round(batch.trained_tokens * share))
        steps = batch.examples // examples
        if consider(
            f"training.batch_size={examples} with training.accumulation={steps} times as large",
            batch=smaller, accumulates=True,
        ):  # fmt: skip
            break
    for length in _halves(batch.length, least=64):
        shorter = LargestBatch(
            batch.examples, length, round(batch.trained_tokens * length / batch.length)
        )
        if consider(f"training.max_length={length}", batch=shorter):
            break
    if not shape.checkpointing:
        consider("training.gradient_checkpointing=true", checkpointing=True)
    if shape.trains_base and shape.trained > parameters // 10:
        lora = _usual_lora(config)
        consider("--method lora", trains_base=False, trained=lora, dropout=0.05, kept_inputs=1.0)
    return found


def _halves(number: int, least: int = 1) -> list[int]:
    values = []
    while number // 2 >= least:
        number //= 2
        values.append(number)
    return values


def _usual_lora(config: PretrainedConfig) -> int:
    from pipeline.student.methods import get_method

    method = get_method("lora")
    return method.count_parameters(config, method.settings_type())


def free_memory(device: str) -> int:
    """Bytes that are free now: on the GPU, or in this machine and this process's control group."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    values = _read_table(Path("/proc/meminfo"))
    free = values.get("MemAvailable:", 0) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            used = int((group / "memory.current").read_text())
            cache = _read_table(group / "memory.stat").get("inactive_file", 0)
            free = min(free, int(limit) - used + cache)
    except (OSError, ValueError):
        pass
    return free


def _read_table(path: Path) -> Mapping[str, int]:
    rows = (line.split() for line in path.read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def gib(amount: int) -> str:
    """`3.1 GiB`."""
    return f"{amount / 2**30:.1f} GiB"
