"""Bottleneck adapters: h ← h + f(h W_down) W_up after attention and after the FFN of each layer
(Houlsby et al. 2019, arXiv 1902.00751).

2dm + d + m parameters each, near the identity at the start; the norms are trained too. PEFT has no
such method: the modules are in torch_parts/bottleneck.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pydantic import PositiveFloat, PositiveInt

from pipeline.errors import UsageError
from pipeline.student.methods.base import Method, MethodSettings, Plan, Prepared, Serving, seeded
from pipeline.student.methods.shapes import build_skeleton, find_sublayers, list_norms

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel


class HoulsbySettings(MethodSettings):
    """Bottleneck adapters after attention and after the FFN of each layer."""

    width: PositiveInt = 64
    """Bottleneck m; 8 to 256, the best differs by task (the paper, section 3)."""
    initial_deviation: PositiveFloat = 0.01
    """Standard deviation of the adapters' weights at the start; up to 0.01 trains stably (the
    paper, section 3.6)."""


class Houlsby(Method[HoulsbySettings]):
    """Serial adapters; not linear, so they cannot be merged."""

    name = "houlsby"
    kept_inputs = 0.3  # it reads the output of two sublayers, not the input of every matrix
    settings_type = HoulsbySettings
    learning_rate = 3e-4  # the paper searched 3e-5, 3e-4 and 3e-3

    def serving(self, settings: HoulsbySettings) -> Serving:
        return "transformers"

    def check(self, config: PretrainedConfig, settings: HoulsbySettings, device: str) -> None:
        find_sublayers(build_skeleton(config))
        if settings.width >= int(config.hidden_size):
            raise UsageError(
                f"setting 'methods.houlsby.width': {settings.width} is no bottleneck for a model of "
                f"width {config.hidden_size}"
            )

    def prepare(self, model: PreTrainedModel, settings: HoulsbySettings, plan: Plan) -> Prepared:
        from pipeline.student.methods.torch_parts.bottleneck import insert_adapters

        with seeded(plan.seed):
            insert_adapters(model, settings.width, settings.initial_deviation)
        return Prepared(model)

    def count_parameters(self, config: PretrainedConfig, settings: HoulsbySettings) -> int:
        """Two adapters of 2dm + d + m a layer, and the norms'."""
        d, m = int(config.hidden_size), settings.width
        skeleton = build_skeleton(config)
        adapters = len(find_sublayers(skeleton)) * (2 * d * m + d + m)
        norms = sum(p.numel() for _, norm in list_norms(skeleton) for p in norm.parameters())
        return adapters + norms

    def save(self, model: nn.Module, folder: Path, base_folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.save_checkpoint(model, folder)

    def load(
        self, base_model: PreTrainedModel, folder: Path, settings: HoulsbySettings
    ) -> nn.Module:
        model = self.prepare(base_model, settings, Plan(total_steps=0, seed=0)).model
        self.load_checkpoint(model, folder)
        return model.eval()

    def merge(
        self, base_model: PreTrainedModel, folder: Path, settings: HoulsbySettings
    ) -> NoReturn:
        raise UsageError(
            "method houlsby cannot be merged into a checkpoint: the adapters are not linear. "
            "Evaluate the student through Transformers"
        )


METHOD = Houlsby()
