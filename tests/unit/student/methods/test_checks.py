"""What a method cannot do is said before any weights are read; the registry and its settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from pipeline.config import load_settings
from pipeline.errors import UsageError
from pipeline.student.methods import METHODS, get_method, load_causal_model
from pipeline.student.methods.adalora import AdaLoraSettings
from tests.support.tuning import prepare

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

LORA_LIKE = ["lora", "rslora", "dora", "pissa", "lora_fa", "loha", "lokr"]
REFUSED = [
    *((name, {"rank": 193}, f"methods.{name}.rank.*193.*k_proj.*at most 192") for name in LORA_LIKE),
    ("adalora", {"initial_rank": 193}, "methods.adalora.initial_rank.*193.*at most 192"),
    ("vera", {"rank": 1537}, "methods.vera.rank.*1537.*1536"),
    *((name, {"target_modules": ["q_proj", "wq"]}, "'wq' matches no linear layer.*down_proj")
      for name in [*LORA_LIKE, "adalora", "vera", "oft"]),
    ("lora", {"target_modules": ["lm_head"]}, "'lm_head' matches no linear layer"),
    ("ia3", {"input_modules": ["wo"]}, "methods.ia3.input_modules.*'wo'"),
    ("oft", {"block_size": 50}, "methods.oft.block_size.*50.*576"),
    ("lokr", {"decompose_factor": 0}, "methods.lokr.decompose_factor"),
    ("houlsby", {"width": 576}, "methods.houlsby.width.*576"),
    ("last_layers", {"layers": 31}, "methods.last_layers.layers.*30 layers.*31"),
    ("gradual_unfreezing", {"stages": 31}, "methods.gradual_unfreezing.stages.*30 layers.*31"),
    ("prompt_tuning", {"virtual_tokens": 8192}, "methods.prompt_tuning.virtual_tokens.*8192"),
    ("bitfit", {}, "bias terms.*llama.*none"),
    ("qlora", {}, "NVIDIA GPU.*on the cpu.*--method lora"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings", "message"), REFUSED)
def test_refused(
    name: str, settings: dict[str, Any], message: str, bundled_config: PretrainedConfig
) -> None:
    method = get_method(name)
    with pytest.raises(UsageError, match=message):
        method.check(bundled_config, method.settings_type(**settings), "cpu")


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"bitfit", "qlora"}))
def test_defaults_suit_the_bundled_model(name: str, bundled_config: PretrainedConfig) -> None:
    get_method(name).check(bundled_config, get_method(name).settings_type(), "cpu")


def test_ia3_needs_names_on_an_architecture_that_peft_does_not_know() -> None:
    from transformers import OlmoConfig

    method = get_method("ia3")
    config = OlmoConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=8)
    with pytest.raises(UsageError, match=r"olmo.*methods\.ia3\.output_modules"):
        method.check(config, method.settings_type(), "cpu")


@pytest.mark.parametrize(
    ("name", "steps", "settings"),
    [("gradual_unfreezing", 3, {"stages": 2, "full_after": 0.1}),
     ("adalora", 0, {})],
)  # fmt: skip
def test_a_plan_that_is_too_short_is_refused(
    name: str, steps: int, settings: dict[str, Any]
) -> None:
    method = get_method(name)
    with pytest.raises(UsageError, match=f"{name}: {steps} training steps are too few"):
        method.check_steps(method.settings_type(**settings), steps)


def test_adalora_refuses_schedules_that_cut_nothing() -> None:
    with pytest.raises(ValidationError, match="target_rank must be smaller"):
        AdaLoraSettings(initial_rank=8, target_rank=8)
    with pytest.raises(ValidationError, match="ranks are never cut"):
        AdaLoraSettings(initial_share=0.5, final_share=0.5)


def test_an_unknown_method_is_answered_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"'lorra'.*adalora.*vera"):
        get_method("lorra")


def test_settings_of_a_method_are_read_and_checked() -> None:
    assert load_settings({"methods.lora.rank": 4}).methods.lora.rank == 4  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"methods\.lora\.rankk.*did you mean"):
        load_settings({"methods.lora.rankk": 4})
    with pytest.raises(UsageError, match=r"methods\.adalora.*target_rank must be smaller"):
        load_settings({"methods.adalora.target_rank": 99})


def test_a_base_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no config\.json"):
        load_causal_model(tmp_path, "float32")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UsageError, match="cannot be loaded"):
        load_causal_model(tmp_path, "float32")


def test_a_checkpoint_of_other_settings_is_refused(
    cut_base: PreTrainedModel, tmp_path: Path
) -> None:
    method = get_method("lora")
    small, _ = prepare(method, cut_base, rank=2)
    large, _ = prepare(method, cut_base, rank=4)
    method.save_checkpoint(small.model, tmp_path)
    with pytest.raises(UsageError, match=r"has shape \(2, \d+\), the model's is \(4, \d+\)"):
        method.load_checkpoint(large.model, tmp_path)
