"""A finished training as evaluation and serving see it: read from its run directory alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError
from pipeline.student.formatting import Template, TemplateName, get_template

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.student.methods.base import Method, MethodSettings

KIND = "training"
TRAIN, HELD_OUT, ADAPTER = "train.jsonl", "held_out.jsonl", "adapter"
CHECKPOINTS, METRICS, RESULT, LOGS = "checkpoints", "metrics.jsonl", "result.json", "tensorboard"


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """What a training run was, and where its student lies. Paths are absolute."""

    run_id: str
    dataset: str
    content_hash: str | None
    base_name: str
    base_folder: Path
    method: str
    method_settings: Mapping[str, Any]
    template_name: TemplateName
    template_text: str | None
    dtype: str
    """Of the base's weights: `float32` or `bfloat16`."""
    max_length: int
    run_seed: int
    run_dir: Path
    result: Mapping[str, Any] | None
    """`result.json`; None while the training has not ended."""

    @property
    def adapter_dir(self) -> Path:
        """What the method saved; loadable by the method alone."""
        return self.run_dir / ADAPTER

    @property
    def train_path(self) -> Path:
        """The examples that were trained on."""
        return self.run_dir / TRAIN

    @property
    def held_out_path(self) -> Path:
        """The examples that were held out, whole lineages of them."""
        return self.run_dir / HELD_OUT

    @property
    def template(self) -> Template:
        """How prompts are written for this student."""
        return get_template(self.template_name, self.template_text)


def read_training(run_dir: Path) -> TrainingRecord:
    """Read a training's run directory; the training may still be going on.

    Raises:
        UsageError: it is no training, or its manifest cannot be read.
    """
    path = run_dir / "manifest.json"
    try:
        manifest = json.loads(path.read_bytes())
        if manifest["kind"] != KIND:
            raise UsageError(
                f"run {run_dir.name} is of kind '{manifest['kind']}', not a training; `evoloom "
                "train` makes one"
            )
        result = run_dir / RESULT
        return TrainingRecord(
            run_id=manifest["run_id"],
            dataset=manifest["dataset"],
            content_hash=manifest["content_hash"],
            base_name=manifest["base"]["name"],
            base_folder=Path(manifest["base"]["folder"]),
            method=manifest["method"]["name"],
            method_settings=manifest["method"]["settings"],
            template_name=manifest["template"],
            template_text=manifest["template_text"],
            dtype=manifest["dtype"],
            max_length=manifest["max_length"],
            run_seed=manifest["run_seed"],
            run_dir=run_dir.resolve(),
            result=json.loads(result.read_bytes()) if result.exists() else None,
        )
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise UsageError(f"{path}: cannot be read: {type(exc).__name__}: {exc}") from exc


def load_student(record: TrainingRecord) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """The tuned model, ready to answer, and its tokenizer.

    Raises:
        UsageError: the training has not ended, or the base model is not where it was.
    """
    method, settings = _method(record)
    model = method.load(_load_base(record, method, settings), record.adapter_dir, settings)
    model.train(mode=False)
    return model, load_tokenizer(record.base_folder)


def merge_student(record: TrainingRecord, folder: Path) -> None:
    """Write the tuned model as an ordinary model folder that vLLM and Transformers load.

    Raises:
        UsageError: the method has no merged form, the training has not ended, or the base model is
            not where it was.
    """
    import torch

    from pipeline.student.methods.base import load_causal_model

    method, settings = _method(record)
    _check_base(record)
    # Never the quantised weights that QLoRA trains on: merged, they would round the student away.
    base = load_causal_model(record.base_folder, getattr(torch, record.dtype))
    merged = method.merge(base, record.adapter_dir, settings)
    merged.save_pretrained(folder)
    load_tokenizer(record.base_folder).save_pretrained(folder)


def load_base_model(record: TrainingRecord) -> PreTrainedModel:
    """The base model as the training loaded it, without the adapter, ready to answer.

    Raises:
        UsageError: it is not where it was.
    """
    method, settings = _method(record, needs_adapter=False)
    model = _load_base(record, method, settings)
    model.train(mode=False)
    return model


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """A model folder's tokenizer; it pads with its end token where it has no other.

    Raises:
        UsageError: the folder holds none.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True
        )
    except (OSError, ValueError) as exc:
        raise UsageError(f"base model {folder}: its tokenizer cannot be loaded: {exc}") from exc
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _method(
    record: TrainingRecord, *, needs_adapter: bool = True
) -> tuple[Method[Any], MethodSettings]:
    from pipeline.student.methods import get_method

    if needs_adapter and not record.adapter_dir.is_dir():
        raise UsageError(
            f"training {record.run_id} has no adapter yet; `evoloom resume {record.run_id}` goes on "
            "with it"
        )
    method = get_method(record.method)
    return method, method.settings_type(**record.method_settings)


def _load_base(
    record: TrainingRecord, method: Method[Any], settings: MethodSettings
) -> PreTrainedModel:
    import torch

    _check_base(record)
    model: PreTrainedModel = method.load_base(
        record.base_folder, getattr(torch, record.dtype), settings
    )
    return model


def _check_base(record: TrainingRecord) -> None:
    if not (record.base_folder / "config.json").is_file():
        raise UsageError(
            f"training {record.run_id} was made on {record.base_folder}, where there is no model now"
        )


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """A JSON file, complete or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
