"""What a training will be, checked before any long work: base, method, template, lengths, memory."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError
from pipeline.student.batching import LargestBatch, largest_batch
from pipeline.student.encoding import EncodedSet, check_not_empty, encode_examples, pack_rows
from pipeline.student.formatting import Template, choose_template
from pipeline.student.memory import (
    MemoryEstimate,
    TrainingShape,
    estimate_memory,
    free_memory,
    gib,
    suggest,
)
from pipeline.student.methods import get_method
from pipeline.student.methods.base import Method, MethodSettings
from pipeline.student.records import Example
from pipeline.student.schedule import count_steps
from pipeline.student.settings import TrainingSettings
from pipeline.student.trained import load_tokenizer

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """A training that can be started."""

    base_folder: Path
    template: Template
    dtype: str
    device: str
    max_length: int
    train: EncodedSet
    held_out: EncodedSet
    parameters: int
    trained_parameters: int
    batch: LargestBatch
    memory: MemoryEstimate


def plan_training(
    base: Path,
    settings: TrainingSettings,
    method_settings: MethodSettings,
    train: Sequence[Example],
    held_out: Sequence[Example],
    run_seed: int,
) -> TrainingPlan:
    """Check everything about a training that can be known before the weights are read.

    Raises:
        UsageError: the base model, the method, the template or the examples cannot be used together,
            or the memory does not suffice; the message says what would fit.
    """
    device = find_device()
    config = read_config(base)
    method = get_method(settings.method)
    method.check(config, method_settings, device)
    check_packing(settings, method, device)
    if settings.gradient_checkpointing and not method.allows_gradient_checkpointing:
        raise UsageError(
            f"training.gradient_checkpointing: method {method.name} hands keys and values to the "
            "model, which checkpointing drops; leave it off"
        )
    for name in settings.report_to:
        _check_reporter(name)
    tokenizer = load_tokenizer(base)
    template = choose_template(tokenizer, settings.template)
    known = getattr(config.get_text_config(), "max_position_embeddings", None)
    max_length = settings.max_length
    if known:
        max_length = min(max_length, known - method.reserved_positions(method_settings))
    sets = []
    for examples, what in ((train, "training"), (held_out, "held-out")):
        encoded = encode_examples(tokenizer, template, examples, max_length, settings.too_long)
        check_not_empty(encoded, what, max_length)
        sets.append(encoded)
    dtype = choose_dtype(settings, device)
    shape = training_shape(
        config, settings, method, method_settings, sets[0], dtype, device, run_seed, max_length
    )
    rows = pack_rows(sets[0].rows, max_length) if settings.packing else sets[0].rows
    steps = count_steps(len(rows), settings, count_processes(settings))
    method.check_steps(method_settings, steps)
    parameters = count_base(config)
    size = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    memory = estimate_memory(config, parameters, size, shape)
    _check_memory(config, parameters, size, shape, memory, settings)
    return TrainingPlan(
        base_folder=base,
        template=template,
        dtype=dtype,
        device=device,
        max_length=max_length,
        train=sets[0],
        held_out=sets[1],
        parameters=parameters,
        trained_parameters=shape.trained,
        batch=shape.batch,
        memory=memory,
    )


def find_device() -> str:
    """`cuda` where there is a GPU, else `cpu`.

    Raises:
        UsageError: the libraries of the student are not installed.
    """
    for module in ("torch", "trl", "peft", "accelerate", "datasets"):
        if importlib.util.find_spec(module) is None:
            raise UsageError(
                f"training needs {module}, which is not installed. Install evoloom[student] beside "
                "evoloom[cpu] or, on a machine with a GPU, evoloom[gpu]"
            )
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def count_processes(settings: TrainingSettings) -> int:
    """How many processes train together: as set, else one for each GPU.

    Raises:
        UsageError: more are asked for than there are GPUs.
    """
    device = find_device()
    if device == "cpu":
        return settings.processes or 1
    import torch

    there = torch.cuda.device_count()
    if settings.processes > there:
        raise UsageError(
            f"training.processes = {settings.processes}: there are {there} GPUs; 0 takes them all"
        )
    return settings.processes or there


def read_config(base: Path) -> PretrainedConfig:
    """A base model's configuration.

    Raises:
        UsageError: there is no model in the folder.
    """
    from transformers import AutoConfig

    if not (base / "config.json").is_file():
        raise UsageError(
            f"base model {base}: there is no model (no config.json); --base takes the folder of a "
            "Hugging Face model, and without it the bundled model is trained"
        )
    if not any(base.glob("*.safetensors")):
        raise UsageError(f"base model {base}: there are no weights (*.safetensors)")
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(str(base), local_files_only=True)
    except (OSError, ValueError, KeyError) as exc:
        raise UsageError(f"base model {base}: its config.json cannot be used: {exc}") from exc
    return config


def choose_dtype(settings: TrainingSettings, device: str) -> str:
    """`bfloat16` or `float32`: as set, else by what the device computes in."""
    if settings.dtype != "auto":
        return settings.dtype
    from pipeline.teacher.engine_command import computes_in_bfloat16

    return "bfloat16" if device == "cuda" or computes_in_bfloat16() else "float32"


def check_packing(settings: TrainingSettings, method: Method[Any], device: str) -> None:
    """
    Raises:
        UsageError: rows of several examples were asked for where the kernel cannot keep them apart.
    """
    if not settings.packing:
        return
    instead = "training.by_length (the default) pads little without it"
    if not method.allows_packing:
        raise UsageError(
            f"training.packing: method {method.name} puts something before the first token of each "
            f"row, which only the first of several examples would see; {instead}"
        )
    if device != "cuda" or importlib.util.find_spec("flash_attn") is None:
        where = "on a CPU" if device != "cuda" else "without the package flash-attn"
        raise UsageError(
            f"training.packing: {where} attention has no kernel for rows of several examples; it would "
            f"compute a full mask over the packed row, which costs more than packing saves. {instead}"
        )


def training_shape(
    config: PretrainedConfig,
    settings: TrainingSettings,
    method: Method[Any],
    method_settings: MethodSettings,
    train: EncodedSet,
    dtype: str,
    device: str,
    run_seed: int,
    max_length: int,
) -> TrainingShape:
    """What the memory of this training depends on."""
    if settings.packing:
        rows = pack_rows(train.rows, max_length)
        lengths = [sum(len(item.input_ids) for item in row) for row in rows]
        trained = [sum(item.trained_tokens for item in row) for row in rows]
    else:
        lengths = [len(row.input_ids) for row in train.rows]
        trained = [row.trained_tokens for row in train.rows]
    batch = largest_batch(
        lengths, trained, settings.batch_size, run_seed, max(1, round(settings.epochs)),
        by_length=settings.by_length,
    )  # fmt: skip
    if settings.packing:  # the collator lays the rows of a batch end to end
        batch = LargestBatch(1, batch.examples * batch.length, batch.trained_tokens)
    return TrainingShape(
        trained=method.count_parameters(config, method_settings),
        trains_base=method.trains_base,
        batch=batch,
        dtype_bytes=2 if dtype == "bfloat16" else 4,
        dropout=float(getattr(method_settings, "dropout", 0.0)),
        accumulates=settings.accumulation > 1,
        checkpointing=settings.gradient_checkpointing,
        device=device,
        quantised_bytes=0.55 if method.name == "qlora" else None,
        kept_inputs=method.kept_inputs,
        kept_outputs=method.kept_outputs,
        kept_weights=method.kept_weights,
    )


def count_base(config: PretrainedConfig) -> int:
    """Parameters of the base model, without reading its weights."""
    import torch
    from transformers import AutoModelForCausalLM

    models: Any = AutoModelForCausalLM
    try:
        with torch.device("meta"):
            model = models.from_config(config)
    except (ValueError, KeyError) as exc:
        raise UsageError(
            f"base model: a {config.model_type} is no causal language model that Transformers "
            f"knows: {exc}"
        ) from exc
    return sum(parameter.numel() for parameter in model.parameters())


def _check_memory(
    config: PretrainedConfig,
    parameters: int,
    size: int,
    shape: TrainingShape,
    memory: MemoryEstimate,
    settings: TrainingSettings,
) -> None:
    limit = settings.memory_limit_gib
    free = free_memory(shape.device) if limit is None else int(limit * 2**30)
    if memory.peak <= free:
        return
    fits = suggest(config, parameters, size, shape, free)
    listed = "".join(f"\n  {change}: {gib(peak)}" for change, peak in fits.items())
    remedy = f"What would fit, each by itself:{listed}" if fits else "Nothing smaller would fit"
    said = "free" if limit is None else "allowed (training.memory_limit_gib)"
    raise UsageError(
        f"this training would take about {gib(memory.peak)} at its peak (weights "
        f"{gib(memory.weights)}, optimiser {gib(memory.optimiser)}, gradients {gib(memory.gradients)}, "
        f"activations {gib(memory.activations)} of {shape.batch.examples} x {shape.batch.length} "
        f"tokens, logits {gib(memory.logits)}); {gib(free)} are {said}. {remedy}"
    )


def _check_reporter(name: str) -> None:
    module = {"tensorboard": "tensorboard", "mlflow": "mlflow"}[name]
    if importlib.util.find_spec(module) is None:
        extra = "student" if name == "tensorboard" else "mlflow"
        raise UsageError(
            f"training.report_to: {name} is not installed. Install evoloom[{extra}], or leave it out"
        )
