"""Small students for tests: the bundled model cut to few layers, tuned for a few steps, as the run
directory of a training that has ended."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.student.formatting import IGNORED, choose_template
from pipeline.student.methods import Plan, get_method, load_causal_model
from pipeline.student.records import Example, write_examples
from pipeline.student.trained import load_tokenizer
from pipeline.teacher.engine_settings import default_cache_dir
from pipeline.teacher.weights import unpack_bundled_model
from store.run_directory import runs_directory
from tests.support.run_directories import write_state

_LAYER = re.compile(r"model\.layers\.(\d+)\.")


def bundled_model() -> Path:
    """The bundled model's folder."""
    return unpack_bundled_model(default_cache_dir())


def cut_model(folder: Path, layers: int = 2) -> Path:
    """The bundled model with its first layers alone, in `folder`."""
    import shutil

    from safetensors.torch import load_file, save_file

    source = bundled_model()
    folder.mkdir(parents=True)
    for path in source.glob("*.json"):
        shutil.copyfile(path, folder / path.name)
    for path in source.glob("*.jinja"):
        shutil.copyfile(path, folder / path.name)
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] = layers
    config.pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(config))
    weights = {
        name: value
        for name, value in load_file(source / "model.safetensors").items()
        if (match := _LAYER.match(name)) is None or int(match[1]) < layers
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def train_student(
    store: Path,
    run_id: str,
    base: Path,
    train: Sequence[Example],
    held_out: Sequence[Example],
    *,
    method: str = "lora",
    steps: int = 8,
    learning_rate: float = 2e-3,
    longest: int = 64,
    **settings: Any,
) -> Path:
    """Tune a student for a few steps and write the run directory of its training."""
    import torch

    torch.manual_seed(1)
    chosen = get_method(method)
    values = chosen.settings_type(**settings)
    tokenizer = load_tokenizer(base)
    template = choose_template(tokenizer, "auto")
    model = chosen.load_base(base, "float32", values)
    prepared = chosen.prepare(model, values, Plan(steps, 1))
    student = prepared.model
    student.train()
    trained = [value for value in student.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=learning_rate)
    for step in range(steps):
        encoded = template.encode(tokenizer, train[step % len(train)])
        ids, labels = encoded.input_ids[:longest], encoded.labels[:longest]
        if all(label == IGNORED for label in labels):
            continue
        student(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    run_dir = runs_directory(store) / run_id
    run_dir.mkdir(parents=True)
    chosen.save(student, run_dir / "adapter", base)
    (run_dir / "train.jsonl").write_bytes(write_examples(train))
    (run_dir / "held_out.jsonl").write_bytes(write_examples(held_out))
    (run_dir / "result.json").write_text("{}")
    manifest = {
        "format": 1, "run_id": run_id, "kind": "training", "dataset": "tiny@2026-11-26.1",
        "content_hash": None, "base": {"name": "tiny", "folder": str(base)},
        "method": {"name": method, "settings": values.model_dump(mode="json")},
        "template": template.name, "template_text": template.text, "dtype": "float32",
        "max_length": 512, "run_seed": 1, "config": {}, "estimated_memory_bytes": None,
        "counts": {"train": len(train), "held_out": len(held_out)},
    }  # fmt: skip
    (run_dir / "manifest.json").write_text(json.dumps(manifest))
    write_state(run_dir, "completed")
    return run_dir


def nursery(count: int, start: int = 0) -> list[Example]:
    """Examples that a few steps can learn: always the same short shape of an answer."""
    animals = (
        "cat dog cow horse sheep goat hen duck pig donkey fox owl bear wolf frog mouse".split()
    )
    return [
        Example(
            f"instance-{number}", f"root-{number // 2}",
            f"Say what number {number} the {animals[number % len(animals)]} is.", "",
            f"The {animals[number % len(animals)]} is number {number}, and that is all.",
            number % 4 == 3,
        )
        for number in range(start, start + count)
    ]  # fmt: skip


__all__ = ["bundled_model", "cut_model", "load_causal_model", "nursery", "train_student"]
