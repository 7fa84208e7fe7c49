"""The bundled model for the tests of the methods."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.student.methods import load_causal_model
from tests.support.students import bundled_model, cut_model

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

VOCABULARY = 8192


@pytest.fixture(scope="session")
def cut_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model cut to two layers."""
    return cut_model(tmp_path_factory.mktemp("methods") / "cut")


@pytest.fixture(scope="session")
def cut_base(cut_folder: Path) -> PreTrainedModel:
    """The same in float32 with the first entries of its vocabulary; tests copy it."""
    return cut_vocabulary(load_causal_model(cut_folder, "float32"))


@pytest.fixture(scope="session")
def biased_base(cut_folder: Path) -> PreTrainedModel:
    """The same weights with biases in attention and FFN, which start at zero."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(cut_folder, attention_bias=True, mlp_bias=True)
    return cut_vocabulary(load_causal_model(cut_folder, "float32", config=config))


def cut_vocabulary(model: PreTrainedModel) -> PreTrainedModel:
    """Embeddings are four fifths of the cut model, and no method is about them."""
    model.resize_token_embeddings(VOCABULARY)
    return model


@pytest.fixture(scope="session")
def bundled_config() -> PretrainedConfig:
    """The configuration of the whole bundled model."""
    from transformers import AutoConfig, PretrainedConfig

    config = AutoConfig.from_pretrained(bundled_model())
    assert isinstance(config, PretrainedConfig)
    return config
