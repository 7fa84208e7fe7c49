"""Every method prepares, trains, saves, reloads, merges where it can, and lowers the loss."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from pipeline.errors import UsageError
from pipeline.student.methods import METHODS, Plan, get_method, load_causal_model
from tests.support.students import bundled_model
from tests.support.tuning import compute_loss, read_logits, trained_names, tune

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# QLoRA needs a GPU: test_qlora.py.
NAMES = sorted(set(METHODS) - {"qlora"})
# Merging adds the update to the weights instead of to the activations.
MERGE_NOISE = 2e-3
SETTINGS = {"gradual_unfreezing": {"stages": 2}}
LEARNING_RATES = {"full": 1e-4, "gradual_unfreezing": 1e-4, "last_layers": 1e-3}


def check_lifecycle(name: str, base: PreTrainedModel, folder: Path) -> None:
    method = get_method(name)
    learning_rate = LEARNING_RATES.get(name, 5e-3)
    tuned = tune(method, base, folder, learning_rate=learning_rate, **SETTINGS.get(name, {}))
    logits = read_logits(tuned.model, tuned.rows)
    loss, start_loss = (compute_loss(x, tuned.rows) for x in (logits, tuned.start_logits))
    assert loss < start_loss - 0.01

    trained = trained_names(tuned.model)
    method.save(tuned.model, folder / "student", Path("base"))
    assert torch.equal(read_logits(tuned.model, tuned.rows), logits), "saving changed the model"
    assert trained_names(tuned.model) == trained

    loaded = method.load(deepcopy(base), folder / "student", tuned.settings)
    assert not loaded.training
    torch.testing.assert_close(read_logits(loaded, tuned.rows), logits, rtol=0, atol=MERGE_NOISE)
    distance = (logits - read_logits(base, tuned.rows)).abs().max()
    assert distance > 10 * MERGE_NOISE, "the student answers like its base"

    if method.serving(tuned.settings) == "transformers":
        with pytest.raises(UsageError, match=f"method {name} cannot be merged"):
            method.merge(deepcopy(base), folder / "student", tuned.settings)
    else:
        merged = method.merge(deepcopy(base), folder / "student", tuned.settings)
        assert type(merged) is type(base)
        assert merged.state_dict().keys() == base.state_dict().keys()
        torch.testing.assert_close(
            read_logits(merged, tuned.rows), logits, rtol=0, atol=MERGE_NOISE
        )

    (folder / "checkpoint").mkdir()
    method.save_checkpoint(tuned.model, folder / "checkpoint")
    again = method.prepare(deepcopy(base), tuned.settings, tuned.plan).model
    torch.testing.assert_close(
        read_logits(again, tuned.rows), tuned.start_logits, rtol=0, atol=1e-4
    )
    method.load_checkpoint(again, folder / "checkpoint")
    torch.testing.assert_close(read_logits(again, tuned.rows), logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_lifecycle(
    name: str, cut_base: PreTrainedModel, biased_base: PreTrainedModel, tmp_path: Path
) -> None:
    check_lifecycle(name, biased_base if name == "bitfit" else cut_base, tmp_path)


@pytest.mark.verify_student
@pytest.mark.parametrize("name", NAMES)
def test_lifecycle_of_the_whole_model(name: str, tmp_path: Path) -> None:
    from transformers import AutoConfig

    biases = name == "bitfit"
    config = AutoConfig.from_pretrained(bundled_model(), attention_bias=biases, mlp_bias=biases)
    check_lifecycle(name, load_causal_model(bundled_model(), "float32", config=config), tmp_path)


@pytest.mark.parametrize("name", [name for name in NAMES if not METHODS[name].trains_base])
def test_adapters_of_a_bfloat16_base_are_float32(name: str, cut_base: PreTrainedModel) -> None:
    method = get_method(name)
    base = deepcopy(cut_base).to(torch.bfloat16)
    settings = method.settings_type()
    model = method.prepare(base, settings, Plan(10, 1)).model
    rows = torch.arange(3, 11)[None]
    model.train()
    model(input_ids=rows, labels=rows).loss.backward()
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert {value.dtype for value in trained.values()} == {torch.float32}
    assert sum(1 for value in trained.values() if value.grad is not None and value.grad.any())
