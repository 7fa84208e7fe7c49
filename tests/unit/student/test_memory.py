"""The memory estimate: what it is made of, and what it suggests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.student.batching import LargestBatch
from pipeline.student.memory import TrainingShape, estimate_memory, free_memory, suggest
from pipeline.student.methods import get_method
from pipeline.student.planning import count_base, read_config
from tests.support.students import bundled_model

PARAMETERS = 134_515_008
SHAPE = TrainingShape(
    trained=4_884_480,
    trains_base=False,
    batch=LargestBatch(8, 256, 1000),
    dtype_bytes=4,
    dropout=0.05,
    accumulates=False,
    checkpointing=False,
    device="cpu",
)


def peak(shape: TrainingShape = SHAPE) -> int:
    return estimate_memory(read_config(bundled_model()), PARAMETERS, 269_000_000, shape).peak


def test_parameters_are_counted_without_reading_weights() -> None:
    config = read_config(bundled_model())
    assert count_base(config) == PARAMETERS
    lora = get_method("lora")
    assert lora.count_parameters(config, lora.settings_type()) == SHAPE.trained


def test_the_parts_are_those_of_the_published_formula() -> None:
    found = estimate_memory(read_config(bundled_model()), PARAMETERS, 269_000_000, SHAPE)
    assert found.weights == 4 * (PARAMETERS + SHAPE.trained)
    assert found.gradients == 4 * SHAPE.trained
    assert found.optimiser == 8 * SHAPE.trained
    assert found.logits == 12 * 1000 * 49152
    assert found.peak >= found.weights + found.optimiser + found.activations + found.logits


def on_a_gpu(**changes: Any) -> TrainingShape:
    shape = {"device": "cuda", "dtype_bytes": 2, "batch": LargestBatch(8, 439, 1500), **changes}
    return replace(SHAPE, **shape)


@pytest.mark.parametrize(
    ("shape", "measured_gib"),
    [(on_a_gpu(dtype_bytes=4), 6.81), (on_a_gpu(), 3.98)],
)
def test_on_a_gpu_the_bundled_models_peak_is_that_measured_on_an_h200(
    shape: TrainingShape, measured_gib: float
) -> None:
    assert peak(shape) / 2**30 == pytest.approx(measured_gib, rel=0.1)


@pytest.mark.parametrize(
    ("method", "changes", "measured_gib"),
    [
        ("lora", {}, 15.14),
        ("lora", {"batch": LargestBatch(8, 311, 1300)}, 11.78),
        ("lora", {"checkpointing": True}, 4.59),
        ("full", {"trains_base": True}, 33.66),
        ("qlora", {"batch": LargestBatch(8, 311, 1300), "quantised_bytes": 0.55}, 12.44),
        ("lora", {"batch": LargestBatch(32, 443, 6000)}, 50.56),
        ("dora", {"batch": LargestBatch(8, 443, 1500)}, 26.86),
    ],
)
def test_on_a_gpu_a_larger_models_peak_is_that_measured_on_an_h200(
    method: str, changes: dict[str, Any], measured_gib: float
) -> None:
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=2048, intermediate_size=8192, num_hidden_layers=24, num_attention_heads=32,
        vocab_size=49152, tie_word_embeddings=True,
    )  # fmt: skip
    kind = get_method(method)
    settings = kind.settings_type()
    shape = on_a_gpu(
        trained=kind.count_parameters(config, settings),
        dropout=float(getattr(settings, "dropout", 0.0)),
        kept_inputs=kind.kept_inputs,
        kept_outputs=kind.kept_outputs,
        kept_weights=kind.kept_weights,
        **changes,
    )
    found = estimate_memory(config, 1_711_376_384, 3_422_752_768, shape)
    assert found.peak / 2**30 == pytest.approx(measured_gib, rel=0.1)


def test_it_grows_with_what_takes_memory() -> None:
    more = {
        "batch": LargestBatch(16, 256, 2000),
        "accumulates": True,
        "dropout": 0.05,
    }
    assert peak(replace(SHAPE, batch=more["batch"])) > 1.6 * peak()  # type: ignore[arg-type]
    assert peak(replace(SHAPE, accumulates=True)) > peak()
    assert peak(replace(SHAPE, dropout=0.0)) < peak()
    assert peak(replace(SHAPE, checkpointing=True)) < 0.6 * peak()
    small = replace(SHAPE, batch=LargestBatch(1, 16, 10))
    full = replace(small, trained=PARAMETERS, trains_base=True)
    assert peak(full) > 16 * PARAMETERS > 2 * peak(small)


def test_what_it_suggests_fits_and_what_does_not_fit_is_not_suggested() -> None:
    config = read_config(bundled_model())
    limit = peak() // 2
    found = suggest(config, PARAMETERS, 269_000_000, SHAPE, limit)
    assert [name.split("=")[0] for name in found] == [
        "training.batch_size", "training.max_length", "training.gradient_checkpointing",
    ]  # fmt: skip
    assert all(amount <= limit for amount in found.values())
    assert suggest(config, PARAMETERS, 269_000_000, SHAPE, 300 * 2**20) == {}
    full = replace(SHAPE, trained=PARAMETERS, trains_base=True, batch=LargestBatch(1, 64, 30))
    assert list(suggest(config, PARAMETERS, 269_000_000, full, peak(full) // 2)) == [
        "--method lora"
    ]


def test_free_memory_is_no_more_than_there_is() -> None:
    with Path("/proc/meminfo").open() as file:
        total = int(file.readline().split()[1]) * 1024
    assert 0 < free_memory("cpu") <= total


def test_a_folder_without_a_model_is_refused(tmp_path: object) -> None:
    with pytest.raises(UsageError, match="there is no model"):
        read_config(tmp_path)  # type: ignore[arg-type]
