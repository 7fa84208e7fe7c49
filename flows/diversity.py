"""The diversity of runs, imports and dataset versions, from their run directories and the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flows.analysis import METHODS, parses_frame
from pipeline.diversity import PARSER_VERSION, Method, VerbNoun
from pipeline.diversity.pooling import parse_chunks
from pipeline.diversity.profile import SAMPLE, Profile, compute_profile
from pipeline.diversity.verb_noun import CHUNK
from pipeline.errors import UsageError
from store.analysis import read_parses, write_parses
from store.database import StoreBusyError
from store.run_directory import runs_directory
from store.run_names import resolve_run
from store.run_rows import read_run_rows
from store.snapshot import publish
from store.text import storable


@dataclass(frozen=True, slots=True)
class DatasetDiversity:
    """A run's, an import's or a dataset version's."""

    run_id: str
    profile: Profile


@dataclass(frozen=True, slots=True)
class _Texts:
    texts: list[str]
    is_classification: list[bool | None]


def measure_diversity(
    store_path: Path,
    names: Sequence[str],
    method: Method = "mended",
    dispersion: Callable[[Sequence[str]], float] | None = None,
) -> list[DatasetDiversity]:
    """Measure datasets, so that they can be set side by side.

    What the store has no parse of is parsed now and kept, if the store can be written.

    Raises:
        UsageError: one is not there, or has no accepted instruction.
    """
    runs_dir = runs_directory(store_path)
    run_ids = [resolve_run(runs_dir, name) for name in names]
    found = [_read(runs_dir / run_id) for run_id in run_ids]
    for run_id, item in zip(run_ids, found, strict=True):
        if not item.texts:
            raise UsageError(f"{run_id} has no accepted instruction yet, so there is no diversity")
    records = _records(store_path, [text for item in found for text in item.texts], method)
    sample = min(SAMPLE, *(len(item.texts) for item in found))
    return [
        DatasetDiversity(
            run_id,
            compute_profile(
                item.texts,
                [records[text] for text in item.texts],
                item.is_classification,
                sample=sample,
                dispersion=dispersion,
            ),
        )
        for run_id, item in zip(run_ids, found, strict=True)
    ]


def _read(run_dir: Path) -> _Texts:
    """Distinct accepted texts in admission order; the first row that knows says whether one is a
    classification task."""
    known: dict[str, bool | None] = {}
    for row in read_run_rows(run_dir).instructions.values():
        text = storable(row.text)  # as the store has it
        if row.state == "accepted" and known.get(text) is None:
            known[text] = row.is_classification
    return _Texts(list(known), list(known.values()))


def _records(store_path: Path, texts: Sequence[str], method: Method) -> dict[str, VerbNoun]:
    texts = list(dict.fromkeys(texts))
    records = {}
    with suppress(UsageError):  # no snapshot yet: then nothing is known
        for row in read_parses(store_path, texts, method, PARSER_VERSION).iter_rows(named=True):
            further = tuple((item["verb"], item["noun"]) for item in row["further"])
            records[texts[row["place"]]] = VerbNoun(
                row["kind"], row["verb"], row["noun"], further, row["question_word"]
            )
    missing = [text for text in texts if text not in records]
    parsed = []
    chunks = (missing[i : i + CHUNK] for i in range(0, len(missing), CHUNK))
    for chunk, answers in parse_chunks(chunks, METHODS, 1):
        for of, found in zip(METHODS, answers, strict=True):
            parsed += [(text, of, record) for text, record in zip(chunk, found, strict=True)]
    if parsed:
        records |= {text: record for text, of, record in parsed if of == method}
        with suppress(StoreBusyError):  # a program has the live file open: parsed again next time
            write_parses(store_path, PARSER_VERSION, parses_frame(parsed))
            publish(store_path)
    return records
