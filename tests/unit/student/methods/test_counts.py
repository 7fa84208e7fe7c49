"""Trainable parameters by each method's formula, for the bundled model and as they are counted."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import pytest

from pipeline.student.methods import METHODS, Plan, get_method

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

# SmolLM2-135M: width, keys and values' width (3 heads of 64), FFN's, layers, vocabulary.
D, KV, FF, L, VOCABULARY = 576, 192, 1536, 30, 49152
# (inputs, outputs) of a layer's matrices: q, k, v, o, gate, up, down.
SHAPES = [(D, D), (D, KV), (D, KV), (D, D), (D, FF), (D, FF), (FF, D)]
LAYER = sum(i * o for i, o in SHAPES) + 2 * D
ALL = VOCABULARY * D + L * LAYER + D

EXPECTED = {
    "lora": L * sum(16 * (i + o) for i, o in SHAPES),
    "rslora": L * sum(64 * (i + o) for i, o in SHAPES),
    "dora": L * sum(16 * (i + o) + o for i, o in SHAPES),
    "pissa": L * sum(16 * (i + o) for i, o in SHAPES),
    "qlora": L * sum(64 * (i + o) for i, o in SHAPES),
    "lora_fa": L * sum(16 * o for _, o in SHAPES),
    "adalora": L * sum(12 * (i + o + 1) for i, o in SHAPES),
    "vera": L * sum(256 + o for _, o in SHAPES),
    "ia3": L * (KV + KV + FF),
    "loha": L * sum(2 * 8 * (i + o) for i, o in SHAPES),
    # 576 = 24·24, 192 = 12·16, 1536 = 32·48: C is l × m; all of B A's sides exceed 2r but v and k's.
    "lokr": L * (2 * (24 * 24 + 8 * (24 + 24)) + 2 * (12 * 24 + 8 * (16 + 24))
                 + 2 * (32 * 24 + 8 * (48 + 24)) + (24 * 32 + 8 * (24 + 48))),
    "oft": L * sum(i // 32 * (32 * 31 // 2) for i, _ in SHAPES),
    "houlsby": L * 2 * (2 * D * 64 + D + 64) + L * 2 * D + D,
    "prompt_tuning": 20 * D,
    "prefix_tuning": 20 * KV + (KV * 512 + 512) + (512 * 2 * L * KV + 2 * L * KV),
    "p_tuning_v2": 20 * 2 * L * KV,
    # Two directions of two LSTM layers (four gates, two biases), then 2h → 2h → d.
    "p_tuning": 20 * D + 2 * 4 * 128 * (D + 128 + 2) + 2 * 4 * 128 * (256 + 128 + 2)
                + (256 * 256 + 256) + (256 * D + D),
    "full": ALL,
    "gradual_unfreezing": ALL,
    "last_layers": 8 * LAYER + D,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_formula(name: str, bundled_config: PretrainedConfig) -> None:
    method = get_method(name)
    assert method.count_parameters(bundled_config, method.settings_type()) == EXPECTED[name]


def test_every_method_has_a_formula_here() -> None:
    assert EXPECTED.keys() | {"bitfit"} == METHODS.keys()


def test_formula_of_bitfit(bundled_config: PretrainedConfig) -> None:
    method = get_method("bitfit")
    config = deepcopy(bundled_config)
    config.attention_bias = config.mlp_bias = True
    biases = L * sum(outputs for _, outputs in SHAPES)
    assert method.count_parameters(config, method.settings_type()) == biases


OTHER_SETTINGS = [
    ("lora", {"rank": 4, "target_modules": ["q_proj", "v_proj"]}),
    ("lora", {"target_modules": ["layers.1.self_attn.q_proj"]}),
    ("dora", {"rank": 3, "target_modules": ["down_proj"]}),
    ("adalora", {"initial_rank": 4, "target_rank": 2}),
    ("vera", {"rank": 10, "target_modules": ["k_proj"]}),
    ("ia3", {"output_modules": ["q_proj"], "input_modules": ["o_proj"]}),
    ("lokr", {"rank": 2, "decompose_both": True}),
    ("lokr", {"rank": 100, "decompose_factor": 8}),
    ("oft", {"block_size": 8}),
    ("houlsby", {"width": 8}),
    ("p_tuning", {"encoder": "mlp", "encoder_width": 32}),
    ("p_tuning", {"encoder_layers": 1, "virtual_tokens": 3}),
    ("prefix_tuning", {"encoder_width": 16, "virtual_tokens": 3}),
    ("last_layers", {"layers": 2}),
    ("gradual_unfreezing", {"stages": 2}),
]


@pytest.mark.parametrize(
    ("name", "settings"),
    [(name, {}) for name in sorted(EXPECTED.keys() - {"qlora", "gradual_unfreezing"})]
    + OTHER_SETTINGS,
)
def test_what_requires_a_gradient_is_what_is_counted(
    name: str, settings: dict[str, object], cut_base: PreTrainedModel
) -> None:
    method = get_method(name)
    values = method.settings_type(**settings)
    model = method.prepare(deepcopy(cut_base), values, Plan(10, 1)).model
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    assert method.count_parameters(cut_base.config, values) == trained
