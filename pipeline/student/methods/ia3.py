"""IA3: trained vectors scale keys, values and the FFN's inner activation (Liu et al. 2022,
arXiv 2205.05638).

One parameter a scaled dimension: per layer those of the keys, of the values and of the FFN's inner
width. The vectors start at one and can be merged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import UsageError
from pipeline.student.methods.base import MethodSettings, Plan, Serving
from pipeline.student.methods.peft_method import PeftMethod
from pipeline.student.methods.shapes import LinearShape, choose_targets

if TYPE_CHECKING:
    from peft import IA3Config
    from transformers import PretrainedConfig


class Ia3Settings(MethodSettings):
    """IA3: scales on keys, values and the FFN's inner activation, nothing else."""

    output_modules: tuple[str, ...] = ()
    """Ends of the names of the linear layers whose output is scaled: those of keys and values.
    Unset: what PEFT knows of the architecture."""
    input_modules: tuple[str, ...] = ()
    """Ends of the names of the linear layers whose input is scaled: the FFN's last. Unset: what
    PEFT knows of the architecture."""


class Ia3(PeftMethod[Ia3Settings]):
    """Infused adapter by inhibiting and amplifying inner activations."""

    name = "ia3"
    settings_type = Ia3Settings
    learning_rate = 3e-3  # the paper's recipe, T-Few

    def serving(self, settings: Ia3Settings) -> Serving:
        return "merged"

    def check(self, config: PretrainedConfig, settings: Ia3Settings, device: str) -> None:
        self.targets(config, settings)

    def build_config(
        self, config: PretrainedConfig, settings: Ia3Settings, plan: Plan
    ) -> IA3Config:
        from peft import IA3Config

        outputs, inputs = _choose_names(config, settings)
        return IA3Config(
            task_type="CAUSAL_LM",
            target_modules=[*outputs, *inputs],
            feedforward_modules=list(inputs),
        )

    def count_parameters(self, config: PretrainedConfig, settings: Ia3Settings) -> int:
        """d_out for each scaled output, d_in for each scaled input."""
        outputs, inputs = self.targets(config, settings)
        return sum(s.out_features for s in outputs) + sum(s.in_features for s in inputs)

    def targets(
        self, config: PretrainedConfig, settings: Ia3Settings
    ) -> tuple[list[LinearShape], list[LinearShape]]:
        """The layers whose output and those whose input is scaled."""
        outputs, inputs = _choose_names(config, settings)
        return (
            choose_targets(config, outputs, "methods.ia3.output_modules"),
            choose_targets(config, inputs, "methods.ia3.input_modules"),
        )


def _choose_names(
    config: PretrainedConfig, settings: Ia3Settings
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    from peft.utils import (
        TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING,
        TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
    )

    kind = config.model_type
    known = TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(kind, [])
    inputs = tuple(
        settings.input_modules
        or TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(kind, [])
    )
    outputs = settings.output_modules or tuple(name for name in known if name not in inputs)
    if not (inputs and outputs):
        raise UsageError(
            f"method ia3: PEFT does not know which layers of a {kind} model hold keys, values and "
            "the FFN; name them with methods.ia3.output_modules and methods.ia3.input_modules"
        )
    return tuple(outputs), inputs


METHOD = Ia3()
