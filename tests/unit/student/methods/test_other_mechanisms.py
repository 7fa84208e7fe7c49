"""What makes each additive and selective method itself."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from pipeline.student.methods import get_method
from tests.support.tuning import Tensors, changed, copy_parameters, prepare, read_logits, tune

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def in_layer(names: set[str], number: int) -> set[str]:
    return {name for name in names if f"layers.{number}." in name}


class Moves(TrainerCallback):
    """The names of the parameters that each step changed."""

    def __init__(self) -> None:
        self.by_step: list[set[str]] = []
        self._before: Tensors = {}

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._before = copy_parameters(kwargs["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.by_step.append(changed(self._before, copy_parameters(kwargs["model"])))


def test_full_moves_everything(cut_base: PreTrainedModel, tmp_path: Path) -> None:
    tuned = tune(get_method("full"), cut_base, tmp_path, steps=1, learning_rate=1e-3)
    assert changed(tuned.start, copy_parameters(tuned.model)) == tuned.start.keys()


def test_last_layers_moves_the_top_alone(cut_base: PreTrainedModel, tmp_path: Path) -> None:
    tuned = tune(get_method("last_layers"), cut_base, tmp_path, layers=1)
    moved = changed(tuned.start, copy_parameters(tuned.model))
    top = in_layer(set(tuned.start), 1)
    assert len(top) == 9
    assert moved == top | {"model.norm.weight"}


class TestGradualUnfreezing:
    def test_each_step_moves_exactly_the_scheduled_layers(
        self, cut_base: PreTrainedModel, tmp_path: Path
    ) -> None:
        moves = Moves()
        tuned = tune(get_method("gradual_unfreezing"), cut_base, tmp_path, steps=4,
                     learning_rate=1e-4, callbacks=[moves], stages=2, full_after=0.5)  # fmt: skip
        everything = set(tuned.start)
        top = in_layer(everything, 1) | {"model.norm.weight"}
        assert moves.by_step == [top, top, everything, everything]

    def test_its_schedule(self) -> None:
        from pipeline.student.methods.gradual_unfreezing import (
            GradualUnfreezingSettings,
            schedule,
        )

        assert schedule(GradualUnfreezingSettings(), 300) == [0, 50, 100, 150]
        assert schedule(GradualUnfreezingSettings(stages=2, full_after=0.9), 10) == [0, 9]

    def test_groups_are_all_layers_from_the_top(self, cut_base: PreTrainedModel) -> None:
        from transformers import AutoModelForCausalLM

        from pipeline.student.methods.gradual_unfreezing import group_by_stage

        config = deepcopy(cut_base.config)
        config.num_hidden_layers, config.layer_types = 7, None
        config.tie_word_embeddings = False
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        groups = group_by_stage(model, 3)
        layers = [{n for n in range(7) if in_layer(set(group), n)} for group in groups]
        assert layers == [{4, 5, 6}, {2, 3}, {0, 1}]
        assert {"model.norm.weight", "lm_head.weight"} <= groups[0]
        assert "model.embed_tokens.weight" in groups[2]
        names = [name for name, _ in model.named_parameters()]
        assert sorted(name for group in groups for name in group) == sorted(names)

    def test_the_best_checkpoint_puts_back_what_moved_later(
        self, cut_base: PreTrainedModel, tmp_path: Path
    ) -> None:
        method = get_method("gradual_unfreezing")

        class KeepFirst(TrainerCallback):
            logits: torch.Tensor

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step == 1:  # when only the top is trained
                    method.save_checkpoint(kwargs["model"], tmp_path)
                    self.logits = read_logits(kwargs["model"], rows)

        from tests.support.tuning import draw_rows

        rows, keep = draw_rows(cut_base.config.vocab_size), KeepFirst()
        tuned = tune(method, cut_base, tmp_path, learning_rate=1e-3, callbacks=[keep], stages=2)
        assert (read_logits(tuned.model, rows) - keep.logits).abs().max() > 0.1
        method.load_checkpoint(tuned.model, tmp_path)
        torch.testing.assert_close(read_logits(tuned.model, rows), keep.logits, rtol=0, atol=1e-4)


def test_bitfit_moves_biases_and_nothing_else(biased_base: PreTrainedModel, tmp_path: Path) -> None:
    tuned = tune(get_method("bitfit"), biased_base, tmp_path)
    moved = changed(tuned.start, copy_parameters(tuned.model))
    biases = {name for name in tuned.start if name.endswith(".bias")}
    assert len(biases) == 2 * 7
    assert moved == biases
    assert all(not tuned.start[name].any() for name in biases)


def test_ia3_scales_keys_values_and_the_ffn_and_nothing_else(
    cut_base: PreTrainedModel, tmp_path: Path
) -> None:
    method = get_method("ia3")
    tuned = tune(method, cut_base, tmp_path)
    assert torch.equal(tuned.start_logits, read_logits(cut_base, tuned.rows))
    moved = changed(tuned.start, copy_parameters(tuned.model))
    scales = {name for name in tuned.start if "ia3_l" in name}
    assert moved == scales
    assert len(scales) == 2 * 3
    method.save(tuned.model, tmp_path / "student", tmp_path)
    merged = method.merge(deepcopy(cut_base), tmp_path / "student", tuned.settings)
    touched = changed(copy_parameters(cut_base), copy_parameters(merged))
    assert {name.split(".")[-2] for name in touched} == {"k_proj", "v_proj", "down_proj"}
    # Keys are scaled by output, the FFN's last matrix by input, which is the inner activation.
    for matrix, shape in (("self_attn.k_proj", (192, 1)), ("mlp.down_proj", (1, 1536))):
        layer: Any = tuned.model.get_submodule(f"base_model.model.model.layers.1.{matrix}")
        scale = layer.ia3_l["default"].detach()
        assert scale.shape == shape
        assert (scale - 1).abs().max() > 1e-3
        name = f"model.layers.1.{matrix}.weight"
        expected = cut_base.get_parameter(name) * scale
        torch.testing.assert_close(merged.get_parameter(name), expected.detach())


class TestHoulsby:
    def test_it_starts_near_the_identity(self, cut_base: PreTrainedModel) -> None:
        tuned, _ = prepare(get_method("houlsby"), cut_base, initial_deviation=1e-3)
        base = read_logits(cut_base, tuned.rows)
        distance = (tuned.start_logits - base).norm() / base.norm()
        assert 0 < distance < 1e-3

    def test_it_moves_adapters_and_norms_alone(
        self, cut_base: PreTrainedModel, tmp_path: Path
    ) -> None:
        tuned = tune(get_method("houlsby"), cut_base, tmp_path, width=8)
        moved = changed(tuned.start, copy_parameters(tuned.model))
        adapters = {name for name in tuned.start if ".bottleneck." in name}
        norms = {name for name in tuned.start if "norm" in name}
        assert len(adapters) == 2 * 2 * 4  # layers, places, weight and bias down and up
        assert len(norms) == 2 * 2 + 1
        assert moved == adapters | norms

    def test_an_adapter_is_its_formula(self, cut_base: PreTrainedModel) -> None:
        tuned, _ = prepare(get_method("houlsby"), cut_base, width=8)
        base: Any = cut_base.get_submodule("model.layers.0.mlp")
        mine: Any = tuned.model.get_submodule("model.layers.0.mlp")
        hidden = torch.randn(1, 3, 576, generator=torch.Generator().manual_seed(1))
        h = base(hidden)
        down, up = mine.bottleneck.down, mine.bottleneck.up
        inner = torch.nn.functional.gelu(h @ down.weight.T + down.bias)
        torch.testing.assert_close(mine(hidden), h + inner @ up.weight.T + up.bias)


def encoder_of(model: Any) -> Any:
    return model.prompt_encoder["default"]


class TestVirtualTokens:
    def test_prompt_tuning_trains_k_vectors_that_start_in_the_vocabulary(
        self, cut_base: PreTrainedModel, tmp_path: Path
    ) -> None:
        tuned = tune(get_method("prompt_tuning"), cut_base, tmp_path, virtual_tokens=5)
        moved = changed(tuned.start, copy_parameters(tuned.model))
        (name,) = moved
        assert tuned.start[name].shape == (5, 576)
        vocabulary: Any = cut_base.get_input_embeddings()
        for vector in tuned.start[name]:
            assert (vocabulary.weight == vector).all(dim=1).any()

    def test_prompt_tuning_starts_from_a_text(self, cut_base: PreTrainedModel) -> None:
        from transformers import AutoTokenizer

        text = "This is what"  # common words: the cut vocabulary has them
        tuned, _ = prepare(
            get_method("prompt_tuning"), cut_base, virtual_tokens=7, initial_text=text
        )
        ids = AutoTokenizer.from_pretrained(cut_base.config._name_or_path)(text)["input_ids"]
        ids = (ids * 7)[:7]
        vocabulary: Any = cut_base.get_input_embeddings()
        start = encoder_of(tuned.model).embedding.weight
        assert torch.equal(start, vocabulary.weight[ids])

    def test_prefix_tuning_has_an_mlp_and_saves_only_what_it_makes(
        self, cut_base: PreTrainedModel, tmp_path: Path
    ) -> None:
        method = get_method("prefix_tuning")
        tuned = tune(method, cut_base, tmp_path, virtual_tokens=5)
        parts = {name.split(".default.")[1] for name in tuned.start if "prompt_encoder" in name}
        assert parts == {"embedding.weight", "transform.0.weight", "transform.0.bias",
                         "transform.2.weight", "transform.2.bias"}  # fmt: skip
        method.save(tuned.model, tmp_path / "student", tmp_path)
        saved = load_file(tmp_path / "student" / "adapter_model.safetensors")
        assert [tuple(value.shape) for value in saved.values()] == [(5, 2 * 2 * 192)]

    def test_p_tuning_v2_has_none(self, cut_base: PreTrainedModel, tmp_path: Path) -> None:
        tuned = tune(get_method("p_tuning_v2"), cut_base, tmp_path, virtual_tokens=5)
        moved = changed(tuned.start, copy_parameters(tuned.model))
        (name,) = moved
        assert name.endswith("embedding.weight")
        assert tuned.start[name].shape == (5, 2 * 2 * 192)

    @pytest.mark.parametrize("name", ["prefix_tuning", "p_tuning_v2"])
    def test_deep_prompts_reach_every_layer(self, name: str, cut_base: PreTrainedModel) -> None:
        """Each layer's keys and values have a gradient of their own."""
        tuned, _ = prepare(get_method(name), cut_base, virtual_tokens=3)
        tuned.model.train()
        tuned.model(input_ids=tuned.rows, labels=tuned.rows).loss.backward()
        encoder = encoder_of(tuned.model)
        last = encoder.transform[2].bias if name == "prefix_tuning" else encoder.embedding.weight[0]
        gradient = last.grad if name == "prefix_tuning" else encoder.embedding.weight.grad[0]
        by_layer = gradient.view(2 * 2, 192).abs().sum(dim=1)
        assert (by_layer > 0).all()

    @pytest.mark.parametrize(("kind", "part"), [("lstm", "lstm_head"), ("mlp", "mlp_head.4")])
    def test_p_tuning_has_an_encoder_and_saves_only_what_it_makes(
        self, kind: str, part: str, cut_base: PreTrainedModel, tmp_path: Path
    ) -> None:
        method = get_method("p_tuning")
        tuned = tune(method, cut_base, tmp_path, steps=1, virtual_tokens=5, encoder=kind)
        moved = changed(tuned.start, copy_parameters(tuned.model))
        assert any(f".{part}." in name for name in moved)
        method.save(tuned.model, tmp_path / "student", tmp_path)
        saved = load_file(tmp_path / "student" / "adapter_model.safetensors")
        assert [tuple(value.shape) for value in saved.values()] == [(5, 576)]
