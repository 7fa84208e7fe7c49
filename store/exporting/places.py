"""Which files an export to OUT consists of."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias

from pipeline.errors import UsageError
from store.exporting.formats import FORMATS, Format, llama_factory_columns
from store.exporting.rows import ExportRow
from store.exporting.writing import (
    STANDARD_OUTPUT,
    Content,
    write_array,
    write_directory,
    write_files,
    write_lines,
    write_parquet,
)

Parts: TypeAlias = Mapping[str, Sequence[ExportRow]]
"""The rows of each part: `train` alone, or `train` and `validation`."""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))


def write_parts(format: str, out: Path, parts: Parts, card: Callable[[], str]) -> dict[str, Path]:
    """Write an export's parts; returns where each is.

    Args:
        card: the text of a dataset card, for formats that have one.

    Raises:
        UsageError: `out` cannot be written, or is not a place for this format.
    """
    if format == "hf":
        return _write_hugging_face(out, parts, card())
    if format == "llama-factory":
        return _write_llama_factory(out, parts)
    places = file_places(out, list(parts))
    if FORMATS[format].is_parquet and out == STANDARD_OUTPUT:
        raise UsageError("format parquet is no text for standard output; name a file with --out")
    every = [row for rows in parts.values() for row in rows]
    write_files({
        places[name]: _content(FORMATS[format], rows, every, is_array=out.suffix == ".json")
        for name, rows in parts.items()
    })  # fmt: skip
    return places


def file_places(out: Path, names: Sequence[str]) -> dict[str, Path]:
    """`data.jsonl`, or `data.train.jsonl` and `data.validation.jsonl`.

    Raises:
        UsageError: two parts cannot both go to standard output.
    """
    if len(names) == 1:
        return {names[0]: out}
    if out == STANDARD_OUTPUT:
        raise UsageError("--validation makes two files; name them with --out, such as data.jsonl")
    return {name: out.with_name(f"{out.stem}.{name}{out.suffix}") for name in names}


def _write_hugging_face(out: Path, parts: Parts, card: str) -> dict[str, Path]:
    _refuse_standard_output(out)
    names = {name: f"data/{name}.parquet" for name in parts}
    every = [row for rows in parts.values() for row in rows]
    contents: dict[str, Content] = {
        names[name]: _content(FORMATS["hf"], rows, every) for name, rows in parts.items()
    }
    readme = f"{_yaml_head(names, len(every))}\n{card}"
    contents["README.md"] = lambda file: _write_text(file, readme)
    write_directory(
        out, contents, {"README.md", "data/train.parquet", "data/validation.parquet"}
    )  # fmt: skip
    return {name: out / file for name, file in names.items()}


def _yaml_head(files: Mapping[str, str], rows: int) -> str:
    size = next((name for most, name in _SIZES if rows < most), "1M<n<10M")
    lines = [
        "---",
        "# license: choose one, such as apache-2.0; evoloom does not know it",
        "task_categories:",
        "- text-generation",
        "tags:",
        "- instruction-tuning",
        "size_categories:",
        f"- {size}",
        "configs:",
        "- config_name: default",
        "  data_files:",
    ]
    for split, path in files.items():
        lines += [f"  - split: {split}", f"    path: {path}"]
    return "\n".join([*lines, "---", ""])


def _write_llama_factory(out: Path, parts: Parts) -> dict[str, Path]:
    """Dataset names and files are called as `out` is, so that they may be moved to where
    LLaMA-Factory's other data sets lie."""
    _refuse_standard_output(out)
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", out.resolve().name)
    keys = {name: f"{stem}_{name}" if len(parts) > 1 else stem for name in parts}
    every = [row for rows in parts.values() for row in rows]
    info = {
        key: {
            "file_name": f"{key}.jsonl",
            "formatting": "alpaca",
            "columns": llama_factory_columns(every),
        }
        for key in keys.values()
    }
    contents: dict[str, Content] = {
        f"{keys[name]}.jsonl": _content(FORMATS["llama-factory"], rows, every)
        for name, rows in parts.items()
    }
    text = json.dumps(info, ensure_ascii=False, indent=2) + "\n"
    contents["dataset_info.json"] = lambda file: _write_text(file, text)
    possible = {f"{key}.jsonl" for key in (stem, f"{stem}_train", f"{stem}_validation")}
    write_directory(out, contents, {"dataset_info.json", *possible})
    return {name: out / f"{key}.jsonl" for name, key in keys.items()}


def _content(
    format: Format,
    rows: Sequence[ExportRow],
    every: Sequence[ExportRow],
    *,
    is_array: bool = False,
) -> Content:
    encode = format.encoder(every)
    write = write_array if is_array else write_lines
    if format.is_parquet:
        return lambda file: write_parquet(file, map(encode, rows))
    return lambda file: write(file, map(encode, rows))


def _write_text(file: BinaryIO, text: str) -> None:
    file.write(text.encode())


def _refuse_standard_output(out: Path) -> None:
    if out == STANDARD_OUTPUT:
        raise UsageError("this format is a directory; name one with --out")
