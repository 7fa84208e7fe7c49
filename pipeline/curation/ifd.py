"""Losses of responses with and without their instructions, in batches of like length."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.curation.records import Candidate
from pipeline.errors import UsageError

if TYPE_CHECKING:
    import torch

_TOKENS_AT_ONCE = 2048
"""Tokens of a batch, padding included: the logits of that many take some 400 MB."""
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Measured:
    """IFD by the candidates' numbers, None where no room was left for the response."""

    scores: Mapping[int, float | None]
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Text:
    """Ids whose last `response` ones are the response."""

    ids: list[int]
    response: int


def check_model(folder: Path | None) -> None:
    """Check that a model can be loaded: a folder, or with None the bundled one.

    Raises:
        UsageError: it is not there, or a package is missing.
    """
    missing = [name for name in ("torch", "transformers") if not importlib.util.find_spec(name)]
    if missing:
        raise UsageError(
            f"difficulty needs {', '.join(missing)}, which is not installed: install evoloom[cpu] "
            "or, on a machine with a GPU, evoloom[gpu]"
        )
    if folder is None:
        from pipeline.teacher.weights import find_bundled_gguf

        find_bundled_gguf()
    elif not (folder / "config.json").is_file():
        raise UsageError(
            f"difficulty: {folder} is no model folder (it has no config.json); name one in Hugging "
            "Face's format, or leave `model` out for the bundled model"
        )


def measure_ifd(
    candidates: Sequence[Candidate],
    folder: Path | None,
    cache_dir: Path | None,
    template: Literal["auto", "chat", "alpaca"],
    max_length: int,
    dtype: Literal["auto", "float32", "bfloat16"],
    on_progress: Callable[[int, int], None],
) -> Measured:
    """IFD of each candidate: mean loss of the response's tokens behind the prompt, divided by their
    mean loss behind the token that begins a text.

    The paper's code measures the response alone without its first token, which then has nothing
    before it; with a beginning both means are over the same tokens.

    Raises:
        UsageError: the model cannot be loaded.
    """
    from pipeline.student.formatting import choose_template

    model, tokenizer, name = _load(folder, cache_dir, dtype)
    chosen = choose_template(tokenizer, template)
    limit = min(max_length, int(model.config.max_position_embeddings))
    start = next(
        token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id, 0) if token is not None
    )
    asked: dict[int, _Text] = {}
    alone: dict[int, _Text] = {}
    cut = 0
    for item in candidates:
        prompt = chosen.render_prompt(tokenizer, item.instruction, item.input, item.system)
        prompt_ids = chosen.encode_prompt(tokenizer, prompt)
        response = tokenizer(item.output, add_special_tokens=False).input_ids
        room = limit - len(prompt_ids)
        if room < 1 or not response:
            continue
        cut += len(response) > room
        response = response[:room]
        asked[item.number] = _Text([*prompt_ids, *response], len(response))
        alone[item.number] = _Text([start, *response], len(response))
    of = len(asked) + len(alone)
    done = 0
    losses: list[dict[int, float]] = []
    for texts in (asked, alone):
        losses.append({})
        for numbers in _batches(texts):
            found = _losses(model, [texts[number] for number in numbers])
            losses[-1].update(zip(numbers, found, strict=True))
            done += len(numbers)
            on_progress(done * len(candidates) // of, len(candidates))
    given, without = losses
    # A response that the model is certain of has no loss to be reduced.
    scores = {
        number: round(given[number] / without[number], _DIGITS) if without[number] > 0 else 1.0
        for number in asked
    }
    return Measured(
        {item.number: scores.get(item.number) for item in candidates},
        {
            "model": name,
            "template": chosen.name,
            "dtype": str(model.dtype).removeprefix("torch."),
            "responses_cut": cut,
        },
    )


def _batches(texts: Mapping[int, _Text]) -> Iterator[list[int]]:
    """Numbers of texts of like length, the longest first: what does not fit shows at once."""
    batch: list[int] = []
    for number in sorted(texts, key=lambda number: (-len(texts[number].ids), number)):
        longest = len(texts[batch[0]].ids) if batch else 0
        if batch and (len(batch) + 1) * longest > _TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _losses(model: Any, texts: Sequence[_Text]) -> list[float]:
    """Mean loss of each text's response tokens, in nats."""
    import torch

    width = max(len(text.ids) for text in texts)
    ids = torch.zeros((len(texts), width), dtype=torch.long)
    mask = torch.zeros((len(texts), width), dtype=torch.long)
    labels = torch.full((len(texts), width), -100, dtype=torch.long)
    for row, text in enumerate(texts):
        length = len(text.ids)
        ids[row, :length] = torch.tensor(text.ids)
        mask[row, :length] = 1
        labels[row, length - text.response : length] = ids[row, length - text.response : length]
    device = model.device
    with torch.inference_mode():
        logits = model(
            input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False
        ).logits
        targets = labels[:, 1:].to(device)
        each = _cross_entropy(logits[:, :-1], targets)
        counts = (targets != -100).sum(1)
        means: list[float] = (each.sum(1) / counts).double().cpu().tolist()
    return means


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Loss of each position, 0 where there is no target."""
    import torch

    flat = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-100, reduction="none"
    )
    return flat.view(targets.shape)


def _load(
    folder: Path | None, cache_dir: Path | None, dtype: Literal["auto", "float32", "bfloat16"]
) -> tuple[Any, Any, str]:
    """Model, tokenizer, and how the record names the model: by its name and a hash of its files."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from pipeline.teacher.engine_settings import default_cache_dir
    from pipeline.teacher.weights import unpack_bundled_model

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    place = folder or unpack_bundled_model(cache_dir or default_cache_dir())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    wanted = ("bfloat16" if device == "cuda" else "float32") if dtype == "auto" else dtype
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            place, local_files_only=True, dtype=getattr(torch, wanted)
        )
    except (OSError, ValueError, KeyError, ImportError) as exc:
        raise UsageError(f"difficulty: the model in {place} cannot be loaded: {exc}") from exc
    model.to(torch.device(device))  # type: ignore[arg-type]
    model.eval()  # type: ignore[no-untyped-call]
    return model, tokenizer, _name(place, is_bundled=folder is None)


def _name(place: Path, *, is_bundled: bool) -> str:
    # Folder, sizes and configuration tell models apart without reading gigabytes.
    digest = hashlib.sha256((place / "config.json").read_bytes())
    sizes = {path.name: path.stat().st_size for path in sorted(place.glob("*.safetensors"))}
    digest.update(json.dumps(sizes, sort_keys=True).encode())
    name = "SmolLM2-135M-Instruct (bundled)" if is_bundled else place.name
    return f"{name} {digest.hexdigest()[:12]}"
