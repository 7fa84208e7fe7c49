"""What a plan makes of the base's context."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.student.methods import get_method
from pipeline.student.planning import plan_training, read_config
from pipeline.student.settings import TrainingSettings
from tests.support.students import cut_model, nursery


@pytest.mark.parametrize(("name", "reserved"), [("lora", 0), ("prompt_tuning", 20)])
def test_virtual_tokens_leave_less_of_the_context(name: str, reserved: int, tmp_path: Path) -> None:
    base = cut_model(tmp_path / "base")
    context = read_config(base).max_position_embeddings
    method = get_method(name)
    examples = nursery(12)
    long = replace(examples[0], output="word " * 2 * context)
    settings = TrainingSettings(method=name, max_length=10 * context, batch_size=1)
    plan = plan_training(
        base, settings, method.settings_type(), [long, *examples[1:10]], examples[10:], 1
    )
    assert plan.max_length == context - reserved
    assert max(len(row.input_ids) for row in plan.train.rows) == context - reserved
