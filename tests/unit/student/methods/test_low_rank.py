"""What makes each low-rank method itself, and not plain LoRA under another name."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import TrainerCallback

from pipeline.student.methods import get_method
from tests.support.tuning import Tensors, changed, copy_parameters, prepare, read_logits, tune

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

LAYER = "model.layers.1.self_attn.q_proj"


def layer_of(model: nn.Module, name: str = LAYER) -> Any:
    return model.get_submodule(f"base_model.model.{name}")


def base_part(names: set[str]) -> set[str]:
    """Of the names of a PEFT model's parameters, those of the base."""
    return {name for name in names if not any(part in name for part in ("lora_", "ia3_"))}


def merged_change(name: str, base: PreTrainedModel, folder: Path, settings: Any) -> torch.Tensor:
    """What merging adds to one matrix."""
    merged = get_method(name).merge(deepcopy(base), folder, settings)
    return (
        merged.get_parameter(f"{LAYER}.weight") - base.get_parameter(f"{LAYER}.weight")
    ).detach()


@pytest.mark.parametrize(
    ("name", "scale"), [("lora", lambda r: 12 / r), ("rslora", lambda r: 12 / math.sqrt(r))]
)
def test_scale(name: str, scale: Any, cut_base: PreTrainedModel, tmp_path: Path) -> None:
    """LoRA's update is (alpha / r) B A, rsLoRA's (alpha / √r) B A, in the merged weights."""
    settings = {"rank": 9, "alpha": 12, "target_modules": ["q_proj"]}
    tuned = tune(get_method(name), cut_base, tmp_path, steps=2, **settings)
    get_method(name).save(tuned.model, tmp_path / "student", tmp_path)
    lora = layer_of(tuned.model)
    product = (lora.lora_B["default"].weight @ lora.lora_A["default"].weight).detach()
    change = merged_change(name, cut_base, tmp_path / "student", tuned.settings)
    torch.testing.assert_close(change, scale(9) * product, rtol=1e-3, atol=1e-6)
    assert product.abs().max() > 1e-4
    config = json.loads((tmp_path / "student" / "adapter_config.json").read_text())
    assert config["use_rslora"] is (name == "rslora")


def test_lora_starts_as_its_base_and_leaves_it_alone(
    cut_base: PreTrainedModel, tmp_path: Path
) -> None:
    tuned = tune(get_method("lora"), cut_base, tmp_path)
    assert torch.equal(tuned.start_logits, read_logits(cut_base, tuned.rows))
    moved = changed(tuned.start, copy_parameters(tuned.model))
    assert moved
    assert not base_part(moved)


def test_lora_fa_trains_b_and_never_a(cut_base: PreTrainedModel, tmp_path: Path) -> None:
    tuned = tune(get_method("lora_fa"), cut_base, tmp_path)
    moved = changed(tuned.start, copy_parameters(tuned.model))
    assert moved == {name for name in tuned.start if ".lora_B." in name}
    frozen = [value for name, value in tuned.start.items() if ".lora_A." in name]
    assert all(value.abs().max() > 0 for value in frozen)


class TestPissa:
    @pytest.mark.parametrize("iterations", [0, 16])
    def test_it_starts_as_its_base_from_the_principal_part(
        self, cut_base: PreTrainedModel, iterations: int
    ) -> None:
        settings = {"rank": 8, "alpha": 4, "subspace_iterations": iterations}
        tuned, _ = prepare(get_method("pissa"), cut_base, **settings)
        logits = read_logits(cut_base, tuned.rows)
        torch.testing.assert_close(tuned.start_logits, logits, rtol=0, atol=1e-3)

        weight = cut_base.get_parameter(f"{LAYER}.weight").detach()
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        principal = u[:, :8] @ torch.diag(s[:8]) @ v[:8]
        lora = layer_of(tuned.model)
        product = (lora.lora_B["default"].weight @ lora.lora_A["default"].weight).detach() * 4 / 8
        # The fast decomposition takes as much as the exact one (of singular values that are nearly
        # the same it may take another), and what it took is what the base lost.
        left, least = (weight - product).norm(), (weight - principal).norm()
        assert least < 0.95 * weight.norm()
        assert left < (1 + (1e-5 if iterations == 0 else 0.01)) * least
        torch.testing.assert_close(lora.base_layer.weight + product, weight, rtol=0, atol=1e-5)

    def test_it_is_saved_as_a_lora_of_the_unchanged_base(
        self, cut_base: PreTrainedModel, tmp_path: Path
    ) -> None:
        method = get_method("pissa")
        tuned = tune(method, cut_base, tmp_path, rank=8, alpha=8)
        method.save(tuned.model, tmp_path / "student", tmp_path)
        config = json.loads((tmp_path / "student" / "adapter_config.json").read_text())
        assert (config["r"], config["lora_alpha"]) == (16, 16)
        assert config["init_lora_weights"] is True
        loaded = method.load(deepcopy(cut_base), tmp_path / "student", tuned.settings)
        assert torch.equal(
            layer_of(loaded).base_layer.weight, cut_base.get_parameter(f"{LAYER}.weight")
        )
        # Saved before training, it changes nothing.
        fresh, _ = prepare(method, cut_base, rank=8, alpha=8)
        method.save(fresh.model, tmp_path / "fresh", tmp_path)
        change = merged_change("pissa", cut_base, tmp_path / "fresh", fresh.settings)
        assert change.abs().max() < 1e-5


def test_dora_has_magnitudes_and_moves_them(cut_base: PreTrainedModel, tmp_path: Path) -> None:
    method = get_method("dora")
    tuned = tune(method, cut_base, tmp_path)
    magnitude = "lora_magnitude_vector"
    names = {name for name in tuned.start if magnitude in name}
    assert len(names) == 2 * 7
    (one,) = (name for name in names if LAYER in name)
    weight = cut_base.get_parameter(f"{LAYER}.weight").detach()
    torch.testing.assert_close(tuned.start[one], weight.norm(dim=1))
    after = copy_parameters(tuned.model)
    assert names <= changed(tuned.start, after)
    # W' = m ⊙ (W0 + s B A) / ‖W0 + s B A‖ by row: the merged rows have the magnitudes as norms.
    method.save(tuned.model, tmp_path / "student", tmp_path)
    merged = method.merge(deepcopy(cut_base), tmp_path / "student", tuned.settings)
    norms = merged.get_parameter(f"{LAYER}.weight").norm(dim=1)
    torch.testing.assert_close(norms, after[one], rtol=1e-4, atol=1e-5)


class Ranks(TrainerCallback):
    """How many singular values are left after each step, for each matrix."""

    def __init__(self) -> None:
        self.left: list[dict[str, int]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.left.append(count_ranks(kwargs["model"]))


def count_ranks(model: nn.Module) -> dict[str, int]:
    return {
        name: int((value != 0).sum())
        for name, value in model.named_parameters()
        if "lora_E" in name
    }


class TestAdaLora:
    SETTINGS = {"initial_rank": 6, "target_rank": 2, "target_modules": ["q_proj", "v_proj"]}  # noqa: RUF012

    def test_ranks_shrink_to_the_budget(self, cut_base: PreTrainedModel, tmp_path: Path) -> None:
        method, ranks = get_method("adalora"), Ranks()
        tuned = tune(method, cut_base, tmp_path, steps=10, callbacks=[ranks], **self.SETTINGS)
        totals = [sum(left.values()) for left in ranks.left]
        assert totals[0] == 4 * 6  # the initial share of the steps cuts nothing
        assert totals == sorted(totals, reverse=True)
        assert totals[-1] == totals[-3] == 4 * 2  # nor does the final share
        assert len(set(ranks.left[-1].values())) > 1, "every matrix has the same rank"
        method.save(tuned.model, tmp_path / "student", tmp_path)
        config = json.loads((tmp_path / "student" / "adapter_config.json").read_text())
        assert sum(sum(kept) for kept in config["rank_pattern"].values()) == 4 * 2

    def test_the_penalty_keeps_p_and_q_orthogonal(
        self, cut_base: PreTrainedModel, tmp_path: Path
    ) -> None:
        skews = []
        for weight in (0.0, 0.5):
            tuned = tune(get_method("adalora"), cut_base, tmp_path, steps=6, learning_rate=1e-2,
                         orthogonality=weight, **self.SETTINGS)  # fmt: skip
            q = layer_of(tuned.model).lora_A["default"].detach()
            skews.append((q @ q.T - torch.eye(6)).norm().item())
        assert skews[1] < 0.9 * skews[0]

    def test_a_resumed_training_cuts_as_an_uninterrupted_one(
        self, cut_base: PreTrainedModel, tmp_path: Path
    ) -> None:
        """Killed between two steps: the averages by which ranks are cut come back too."""
        method = get_method("adalora")
        whole, halves = (prepare(method, cut_base, 10, dropout=0, **self.SETTINGS) for _ in "ab")
        step_through(whole, 0, 6)
        step_through(halves, 0, 4)
        (tmp_path / "checkpoint").mkdir()
        method.save_checkpoint(halves[0].model, tmp_path / "checkpoint")
        resumed = prepare(method, cut_base, 10, dropout=0, **self.SETTINGS)
        method.load_checkpoint(resumed[0].model, tmp_path / "checkpoint")
        step_through(resumed, 4, 6)
        assert not changed(copy_parameters(whole[0].model), copy_parameters(resumed[0].model))
        for kind in ("exp_avg_ipt", "exp_avg_unc"):
            expected, averages = (averages_of(tuned.model, kind) for tuned, _ in (whole, resumed))
            assert expected.keys() == averages.keys()
            assert not changed(expected, averages)


def averages_of(model: Any, kind: str) -> Tensors:
    """The moving averages by which PEFT cuts ranks."""
    averages: Tensors = getattr(model.base_model.rankallocator, kind)
    return averages


def step_through(prepared: Any, first: int, end: int) -> None:
    """Steps of plain gradient descent, which has no state of its own, with the callbacks."""
    from types import SimpleNamespace

    tuned, parts = prepared
    tuned.model.train()
    optimiser = torch.optim.SGD([p for p in tuned.model.parameters() if p.requires_grad], lr=0.05)
    for step in range(first, end):
        tuned.model(input_ids=tuned.rows, labels=tuned.rows).loss.backward()
        state: Any = SimpleNamespace(global_step=step)
        unused: Any = None
        for callback in parts.callbacks:
            callback.on_pre_optimizer_step(unused, state, unused)
        optimiser.step()
        for callback in parts.callbacks:
            callback.on_optimizer_step(unused, state, unused)
        optimiser.zero_grad()


def test_vera_shares_one_frozen_pair(cut_base: PreTrainedModel, tmp_path: Path) -> None:
    method = get_method("vera")
    start, _ = prepare(method, cut_base, rank=32)
    tuned = tune(method, cut_base, tmp_path, rank=32)
    layers = [
        module for _, module in tuned.model.named_modules() if hasattr(module, "vera_lambda_d")
    ]
    assert len(layers) == 2 * 7
    for kind in ("vera_A", "vera_B"):
        pairs = [getattr(layer, kind)["default"] for layer in layers]
        assert len({pair.data_ptr() for pair in pairs}) == 1
        before = getattr(layer_of(start.model), kind)["default"]
        assert torch.equal(pairs[0], before)
        assert not pairs[0].requires_grad
    moved = changed(tuned.start, copy_parameters(tuned.model))
    assert moved == {name for name in tuned.start if "vera_lambda" in name}
    # ΔW = diag(b) B diag(d) A, of the parts of the pair that fit this matrix.
    method.save(tuned.model, tmp_path / "student", tmp_path)
    layer = layer_of(tuned.model)
    a, b = layer.vera_A["default"][:, :576], layer.vera_B["default"][:576]
    d, scale = layer.vera_lambda_d["default"], layer.vera_lambda_b["default"]
    expected = (scale[:, None] * b @ (d[:, None] * a)).detach()
    change = merged_change("vera", cut_base, tmp_path / "student", tuned.settings)
    torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-6)
    assert expected.abs().max() > 1e-5


def test_loha_is_an_elementwise_product(cut_base: PreTrainedModel, tmp_path: Path) -> None:
    method = get_method("loha")
    tuned = tune(method, cut_base, tmp_path, rank=3, alpha=6, target_modules=["q_proj"])
    method.save(tuned.model, tmp_path / "student", tmp_path)
    layer = layer_of(tuned.model)
    first, second = (
        getattr(layer, f"hada_w{n}_a")["default"] @ getattr(layer, f"hada_w{n}_b")["default"]
        for n in (1, 2)
    )
    change = merged_change("loha", cut_base, tmp_path / "student", tuned.settings)
    torch.testing.assert_close(change, (2 * first * second).detach(), rtol=1e-3, atol=1e-6)
    assert torch.linalg.matrix_rank(first) == 3
    assert torch.linalg.matrix_rank(first * second) > 3


def test_lokr_is_a_kronecker_product(cut_base: PreTrainedModel, tmp_path: Path) -> None:
    method = get_method("lokr")
    tuned = tune(method, cut_base, tmp_path, rank=2, alpha=4, target_modules=["q_proj"])
    method.save(tuned.model, tmp_path / "student", tmp_path)
    layer = layer_of(tuned.model)
    factor = layer.lokr_w2_a["default"] @ layer.lokr_w2_b["default"]
    expected = 2 * torch.kron(layer.lokr_w1["default"], factor).detach()
    change = merged_change("lokr", cut_base, tmp_path / "student", tuned.settings)
    torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-6)
    assert expected.abs().max() > 1e-5


def test_oft_rotates(cut_base: PreTrainedModel, tmp_path: Path) -> None:
    """W0 R with orthogonal R keeps the norm of each row and all angles between rows."""
    method = get_method("oft")
    tuned = tune(method, cut_base, tmp_path, exact_cayley=True, target_modules=["q_proj"])
    method.save(tuned.model, tmp_path / "student", tmp_path)
    merged = method.merge(deepcopy(cut_base), tmp_path / "student", tuned.settings)
    before, after = (
        model.get_parameter(f"{LAYER}.weight").detach() for model in (cut_base, merged)
    )
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(after @ after.T, before @ before.T, rtol=1e-3, atol=1e-3)
