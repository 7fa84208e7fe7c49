"""How much memory `evoloom train` takes at its peak, beside what it says beforehand, on this machine.

Each case is a training in a process of its own: the plan's estimate (`pipeline/student/memory.py`),
then the measured peak, the rates and the held-out losses. The bundled model is trained with its
weights; larger bases have the shape of a published model and drawn weights, which take the same memory
and time. What needs a GPU is left out where there is none.

    python -m benchmarks.training_memory [--cases NAME ...] [--examples N] [--data FILE]
                                         [--base FOLDER] [--models FOLDER] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.training import LENGTH, ROOT, SEED, draw_examples, find_base, write_run

SHAPES: dict[str, dict[str, Any]] = {
    "1.7b": {  # SmolLM2-1.7B
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24,
        "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
    "1.5b": {  # Qwen2.5 1.5B, without its biases
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "3b": {  # Llama 3.2 3B
        "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28,
        "num_attention_heads": 24, "num_key_value_heads": 8, "vocab_size": 128256,
        "tie_word_embeddings": True,
    },
    "8b": {  # Llama 3.1 8B
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
        "tie_word_embeddings": False,
    },
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "bundled, LoRA, float32": {"dtype": "float32", "examples": 384},
    "bundled, LoRA": {"examples": 384},
    "bundled, LoRA, batches of 32": {"batch_size": 32, "examples": 768},
    "bundled, full": {"method": "full", "examples": 384},
    "bundled, QLoRA": {"method": "qlora", "examples": 384, "gpu": True},
    "1.7b, LoRA": {"base": "1.7b", "examples": 128, "gpu": True},
    "1.7b, LoRA, checkpointing": {
        "base": "1.7b", "examples": 128, "gradient_checkpointing": True, "gpu": True},
    "1.7b, QLoRA": {"base": "1.7b", "method": "qlora", "examples": 128, "gpu": True},
    "1.7b, full": {"base": "1.7b", "method": "full", "examples": 128, "gpu": True},
    "1.7b, LoRA, batches of 32": {"base": "1.7b", "batch_size": 32, "examples": 768, "gpu": True},
    "1.7b, LoRA, batches of 32, shuffled": {
        "base": "1.7b", "batch_size": 32, "by_length": False, "examples": 768, "gpu": True},
    "1.5b, LoRA, batches of 16": {"base": "1.5b", "batch_size": 16, "examples": 128, "gpu": True},
    "1.5b, DoRA": {"base": "1.5b", "method": "dora", "examples": 64, "gpu": True},
    "1.7b, DoRA": {"base": "1.7b", "method": "dora", "examples": 64, "gpu": True},
    "1.5b, LoHa": {"base": "1.5b", "method": "loha", "examples": 64, "gpu": True},
    "1.5b, LoKr": {"base": "1.5b", "method": "lokr", "examples": 64, "gpu": True},
    "1.5b, OFT": {"base": "1.5b", "method": "oft", "examples": 64, "gpu": True},
    "1.5b, VeRA": {"base": "1.5b", "method": "vera", "examples": 64, "gpu": True},
    "1.5b, (IA)3": {"base": "1.5b", "method": "ia3", "examples": 64, "gpu": True},
    "1.5b, Houlsby": {"base": "1.5b", "method": "houlsby", "examples": 64, "gpu": True},
    "1.5b, prefix tuning": {"base": "1.5b", "method": "prefix_tuning", "examples": 64, "gpu": True},
    "3b, LoRA": {"base": "3b", "examples": 64, "gpu": True},
    "3b, QLoRA, checkpointing": {
        "base": "3b", "method": "qlora", "examples": 64, "gradient_checkpointing": True, "gpu": True},
    "3b, full, checkpointing": {
        "base": "3b", "method": "full", "examples": 64, "gradient_checkpointing": True, "gpu": True},
    "8b, LoRA": {"base": "8b", "examples": 64, "gpu": True},
    "8b, LoRA, checkpointing": {
        "base": "8b", "examples": 64, "gradient_checkpointing": True, "gpu": True},
    "8b, QLoRA, checkpointing": {
        "base": "8b", "method": "qlora", "examples": 64, "gradient_checkpointing": True, "gpu": True},
}  # fmt: skip
_HELD_OUT = 32
_OWN = {"base", "method", "examples", "gpu"}


def make_base(shape: str, folder: Path, bundled: Path) -> Path:
    """A base of a published model's shape with drawn weights and the bundled model's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    target = folder / shape
    if (target / "config.json").exists():
        return target
    torch.manual_seed(SEED)
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=4096, dtype="bfloat16",
                         bos_token_id=1, eos_token_id=2, pad_token_id=2)  # fmt: skip
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(config)
    for path in bundled.iterdir():
        if path.name.startswith("tokenizer") or path.suffix == ".jinja":
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    torch.set_default_dtype(before)
    model.save_pretrained(str(target))
    del model
    if torch.cuda.is_available():  # what is measured runs in another process
        torch.cuda.empty_cache()
    return target


def run_case(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Plan and train; returns the estimate, the peak and the rates."""
    from pipeline.student.methods import get_method
    from pipeline.student.planning import plan_training
    from pipeline.student.settings import TrainingSettings
    from pipeline.student.training import train

    case = CASES[name]
    method = case.get("method", "lora")
    base = (args.base or find_base()) if "base" not in case else args.models / case["base"]
    rows = draw_examples((args.examples or case["examples"]) + _HELD_OUT, args.data)
    settings = TrainingSettings(
        method=method, epochs=1, max_length=LENGTH, evaluate_every=10**6, save_every=10**6,
        report_to=(), **{key: value for key, value in case.items() if key not in _OWN},
    )  # fmt: skip
    kind = get_method(method)
    method_settings = kind.settings_type()
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        train_set, held_out = write_run(
            run_dir, rows, base, held_out=_HELD_OUT, dtype=settings.dtype, method=method,
            method_settings=method_settings.model_dump(mode="json"),
        )  # fmt: skip
        plan = plan_training(base, settings, method_settings, train_set, held_out, SEED)
        started = time.perf_counter()
        train(run_dir, settings, progress_interval_s=0.0)
        seconds = time.perf_counter() - started
        result = json.loads((run_dir / "result.json").read_text())
    peak, estimate = result["peak_memory_bytes"], plan.memory.peak
    return {
        "parameters": plan.parameters,
        "dtype": plan.dtype,
        "batch": [plan.batch.examples, plan.batch.length],
        "steps": result["steps"],
        "seconds": round(seconds, 2),
        "tokens_per_s": result["tokens_per_s"],
        "trained_tokens_per_s": result["trained_tokens_per_s"],
        "estimated_gib": round(estimate / 2**30, 3),
        "measured_gib": round(peak / 2**30, 3),
        "estimate_over_measured": round(estimate / peak, 3),
        "estimate": {
            part: round(getattr(plan.memory, part) / 2**30, 3)
            for part in ("weights", "gradients", "optimiser", "activations", "logits", "loading")
        },
        "base_held_out_loss": round(result["base_held_out_loss"], 4),
        "held_out_loss": round(result["held_out_loss"], 4),
        "device": result["device"],
    }


def main() -> None:
    """Measure all cases, print a table, write the figures."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--cases", nargs="*", choices=list(CASES))
    parser.add_argument("--one", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help="JSON lines to draw from; without: Alpaca")
    parser.add_argument("--base", type=Path, help="the bundled model's folder; without: unpacked")
    parser.add_argument("--examples", type=int, help="to train on; without: as the case says")
    parser.add_argument("--models", type=Path, help="where drawn bases are kept")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results" / "training_memory.json"
    )
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run_case(args.one, args)))
        return
    gpu = torch.cuda.is_available()
    names = args.cases or [name for name, case in CASES.items() if gpu or not case.get("gpu")]
    cases: dict[str, Any] = {}
    print(f"{'case':<37}{'estimated':>10}{'measured':>10}{'ratio':>7}{'tok/s':>10}{'loss':>16}")
    with tempfile.TemporaryDirectory() as temporary:
        models = args.models or Path(temporary)
        for name in names:
            if "base" in CASES[name]:
                make_base(CASES[name]["base"], models, args.base or find_base())
            more = ["--data", str(args.data)] if args.data else []
            more += ["--base", str(args.base)] if args.base else []
            more += ["--examples", str(args.examples)] if args.examples else []
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.training_memory", "--one", name, "--models",
                 str(models), *more], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                cases[name] = {"failed": done.returncode}
                print(f"{name:<37} failed", flush=True)
                continue
            cases[name] = found = json.loads(done.stdout.splitlines()[-1])
            losses = f"{found['base_held_out_loss']:.3f} -> {found['held_out_loss']:.3f}"
            print(
                f"{name:<37}{found['estimated_gib']:>10.2f}{found['measured_gib']:>10.2f}"
                f"{found['estimate_over_measured']:>7.2f}{found['tokens_per_s']:>10.0f}{losses:>16}",
                flush=True,
            )
    figures = {
        "cases": cases,
        "hardware": {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if gpu else None,
            "torch": torch.__version__,
        },
    }
    args.out.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
