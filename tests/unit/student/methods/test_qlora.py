"""QLoRA: refused without a GPU; what it asks for; the real thing where there is one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.errors import UsageError
from pipeline.student.methods import Plan, get_method
from pipeline.student.methods.qlora import METHOD, QloraSettings

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def test_without_a_gpu_it_is_refused(bundled_config: PretrainedConfig) -> None:
    with pytest.raises(UsageError, match="needs an NVIDIA GPU") as refusal:
        METHOD.check(bundled_config, QloraSettings(), "cpu")
    assert refusal.value.exit_code == 2


def test_without_bitsandbytes_the_message_says_what_to_install(
    bundled_config: PretrainedConfig,
) -> None:
    if importlib.util.find_spec("bitsandbytes"):
        METHOD.check(bundled_config, QloraSettings(), "cuda")
        return
    with pytest.raises(UsageError, match=r"install evoloom\[gpu\]"):
        METHOD.check(bundled_config, QloraSettings(), "cuda")


def test_the_base_is_quantised_as_published() -> None:
    import torch

    quantisation = METHOD.build_quantisation(QloraSettings())
    assert quantisation.quantization_method() == "nf4"
    assert quantisation.bnb_4bit_use_double_quant is True
    assert quantisation.bnb_4bit_compute_dtype == torch.bfloat16
    plain = METHOD.build_quantisation(QloraSettings(quantisation="fp4", double_quantisation=False))
    assert plain.quantization_method() == "fp4"
    assert plain.bnb_4bit_use_double_quant is False


def test_the_optimiser_is_paged() -> None:
    assert METHOD.optimizer(QloraSettings()) == "paged_adamw_32bit"
    assert METHOD.optimizer(QloraSettings(paged_optimizer=False)) is None
    assert get_method("lora").optimizer(get_method("lora").settings_type()) is None


def test_on_a_gpu_it_trains_on_four_bits_and_serves_as_lora(
    cut_folder: Path, tmp_path: Path
) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    settings = QloraSettings(rank=4)
    base = METHOD.load_base(cut_folder, "bfloat16", settings)
    METHOD.check(base.config, settings, "cuda")
    kinds = {type(module).__name__ for module in base.modules()}
    assert "Linear4bit" in kinds
    model = METHOD.prepare(base, settings, Plan(4, 1)).model
    rows = torch.arange(3, 35, device="cuda").reshape(2, 16)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    losses = []
    for _ in range(4):
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    METHOD.save(model, tmp_path / "student", cut_folder)
    with pytest.raises(UsageError, match="load the base model unquantised"):
        METHOD.merge(METHOD.load_base(cut_folder, "bfloat16", settings), tmp_path / "student",
                     settings)  # fmt: skip
