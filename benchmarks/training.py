"""How fast `evoloom train` is, beside TRL's plain script on the same data and hardware.

The bundled model, LoRA of rank 16 on all linear layers, batches of 8, one pass over real instructions
(Alpaca, drawn with a fixed seed), each part in a process of its own, one after the other:

    trl-default   SFTTrainer as its documentation calls it, every setting at its default
    trl-plain     the same in the number format and without the checkpointing that evoloom chooses here
    by-length     evoloom's defaults
    shuffled      evoloom without batching by length

What counts is response tokens a second, those that the loss is taken on: all parts see the same ones.
The first step, which warms caches, is not counted. Padding is the share of computed tokens that are
none. Packing needs FlashAttention: on a GPU with it a part `packed` is added.

    python -m benchmarks.training [--examples 96] [--repeats 1] [--base FOLDER] [--data FILE]
                                  [--out FILE]
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.student.records import Example

ROOT = Path(__file__).resolve().parents[1]
ALPACA = ROOT.parent / "shared" / "data" / "alpaca" / "alpaca_data_52002.jsonl.gz"
SEED = 7
BATCH, LENGTH = 8, 1024
TRL_PARTS = {"trl-default": {}, "trl-plain": {"gradient_checkpointing": False}}
OWN_PARTS: dict[str, dict[str, Any]] = {
    "by-length": {},
    "shuffled": {"by_length": False},
    "packed": {"packing": True},
}


def draw_examples(count: int, data: Path | None = None) -> list[dict[str, str]]:
    """Rows of Alpaca, or of another file of such rows, that have an output."""
    with data.open(encoding="utf-8") if data else gzip.open(ALPACA, "rt", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row["output"].strip()]
    return random.Random(SEED).sample(rows, count)


def find_base() -> Path:
    """The bundled model's folder."""
    from pipeline.teacher.engine_settings import default_cache_dir
    from pipeline.teacher.weights import unpack_bundled_model

    return unpack_bundled_model(default_cache_dir())


class Clock:
    """Counts what is computed from the second step on."""

    def __init__(self) -> None:
        self.started = 0.0
        self.tokens = self.trained = self.padded = 0
        self._first = True

    def count(self, inputs: dict[str, Any]) -> None:
        """A batch is about to be computed."""
        now = time.perf_counter()
        if self._first:
            self._first = False
            self.started = 0.0
            return
        self.started = self.started or now
        mask = inputs.get("attention_mask")
        self.padded += inputs["input_ids"].numel()
        self.tokens += int(inputs["input_ids"].numel() if mask is None else mask.sum())
        self.trained += int((inputs["labels"][:, 1:] != -100).sum())

    def figures(self) -> dict[str, Any]:
        """Rates since the second step began."""
        seconds = time.perf_counter() - self.started
        return {
            "seconds": round(seconds, 2),
            "trained_tokens_per_s": round(self.trained / seconds, 2),
            "tokens_per_s": round(self.tokens / seconds, 2),
            "padding": round(1 - self.tokens / self.padded, 4),
        }


def run_trl(part: str, rows: list[dict[str, str]], base: Path, folder: Path) -> dict[str, Any]:
    """TRL's own script: a prompt-completion dataset of messages, and nothing else."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from pipeline.student.planning import find_device

    def messages(row: dict[str, str]) -> dict[str, Any]:
        asked = f"{row['instruction']}\n{row['input']}" if row["input"] else row["instruction"]
        return {
            "prompt": [{"role": "user", "content": asked}],
            "completion": [{"role": "assistant", "content": row["output"]}],
        }

    clock = Clock()

    class Timed(SFTTrainer):
        def training_step(self, model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
            clock.count(inputs)
            return super().training_step(model, inputs, *more, **named)

    options: dict[str, Any] = dict(TRL_PARTS[part])
    model_options = {}
    if part == "trl-plain":
        dtype = _dtype()
        options["bf16"] = dtype == "bfloat16"
        model_options = {"model_init_kwargs": {"dtype": dtype}}
    trainer = Timed(
        model=str(base),
        args=SFTConfig(
            output_dir=str(folder / part), num_train_epochs=1, report_to="none",
            save_strategy="no", seed=SEED, use_cpu=find_device() == "cpu", **options, **model_options,
        ),
        train_dataset=Dataset.from_list([messages(row) for row in rows]),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, lora_dropout=0.05,
                               target_modules="all-linear"),
    )  # fmt: skip
    trainer.train()
    return clock.figures()


def write_run(
    run_dir: Path, rows: list[dict[str, str]], base: Path, *, held_out: int = 1, dtype: str = "auto",
    method: str = "lora", method_settings: dict[str, Any] | None = None,
) -> tuple[list[Example], list[Example]]:  # fmt: skip
    """A training's run directory as `evoloom train` writes it; returns both sides of the split."""
    from pipeline.student.records import Example, write_examples

    examples = [
        Example(str(number), str(number), row["instruction"], row["input"], row["output"])
        for number, row in enumerate(rows)
    ]
    run_dir.mkdir()
    sides = (examples[:-held_out], examples[-held_out:])
    for name, side in zip(("train.jsonl", "held_out.jsonl"), sides, strict=True):
        (run_dir / name).write_bytes(write_examples(side))
    (run_dir / "manifest.json").write_text(json.dumps({
        "kind": "training", "run_id": run_dir.name, "dataset": "alpaca", "content_hash": None,
        "base": {"name": base.name, "folder": str(base)},
        "method": {"name": method, "settings": method_settings or {}}, "template": "chat",
        "template_text": None, "dtype": _dtype() if dtype == "auto" else dtype,
        "max_length": LENGTH, "run_seed": SEED,
    }))  # fmt: skip
    return sides


def run_own(part: str, rows: list[dict[str, str]], base: Path, folder: Path) -> dict[str, Any]:
    """The same by evoloom's trainer, from a run directory as `evoloom train` writes it."""
    from pipeline.student import loop
    from pipeline.student.settings import TrainingSettings
    from pipeline.student.training import train

    run_dir = folder / part
    write_run(run_dir, [*rows, rows[0]], base)
    clock = Clock()
    original = loop.StudentTrainer.training_step

    def timed(self: Any, model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
        clock.count(inputs)
        return original(self, model, inputs, *more, **named)

    loop.StudentTrainer.training_step = timed
    settings = TrainingSettings(
        epochs=1, batch_size=BATCH, max_length=LENGTH, evaluate_every=10**6, save_every=10**6,
        report_to=(), **OWN_PARTS[part],
    )  # fmt: skip
    figures: dict[str, Any] = {}

    def at_end(record: dict[str, Any]) -> None:
        if record["step"] == record["steps"] and not figures:
            figures.update(clock.figures())

    train(run_dir, settings, on_record=at_end, progress_interval_s=0.0)
    return figures


def _dtype() -> str:
    from pipeline.student.planning import choose_dtype, find_device
    from pipeline.student.settings import TrainingSettings

    return choose_dtype(TrainingSettings(), find_device())


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def measure(part: str, args: argparse.Namespace, base: Path) -> dict[str, Any]:
    """One part in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training", "--part", part, "--examples",
         str(args.examples), "--base", str(base), *(["--data", str(args.data)] if args.data else [])],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Measure all parts, print a table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--examples", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--base", type=Path, default=None)
    parser.add_argument("--data", type=Path, help="JSON lines to draw from; without: Alpaca")
    parser.add_argument("--part", choices=[*TRL_PARTS, *OWN_PARTS])
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results" / "training.json"
    )
    args = parser.parse_args()
    base = args.base or find_base()
    if args.part:
        rows = draw_examples(args.examples, args.data)
        with tempfile.TemporaryDirectory() as folder:
            call = run_trl if args.part in TRL_PARTS else run_own
            print(json.dumps(call(args.part, rows, base, Path(folder))))
        return
    parts = [*TRL_PARTS, "by-length", "shuffled"]
    if importlib.util.find_spec("flash_attn") is not None:
        parts.append("packed")
    runs: dict[str, list[dict[str, Any]]] = {part: [] for part in parts}
    for _ in range(args.repeats):
        for part in parts:
            runs[part].append(measure(part, args, base))
    table = {
        part: {key: statistics.median(run[key] for run in found) for key in found[0]}
        for part, found in runs.items()
    }
    print(f"{'part':<14}{'response tok/s':>16}{'tok/s':>10}{'padding':>10}{'seconds':>10}")
    for part, found in table.items():
        print(
            f"{part:<14}{found['trained_tokens_per_s']:>16.1f}{found['tokens_per_s']:>10.1f}"
            f"{found['padding']:>10.1%}{found['seconds']:>10.1f}"
        )
    figures = {
        "examples": args.examples,
        "repeats": args.repeats,
        "base": base.name,
        "parts": table,
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "hardware": {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "gpu": _gpu(),
            "python": platform.python_version(),
        },
    }
    args.out.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
