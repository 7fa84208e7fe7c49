"""Makes the lock files under requirements/ again. Run by `make lock`.

They hold versions and hashes and no address, so that any index with the same files serves them.
Versions already locked stay unless `--upgrade` is given. The `gpu` lock is resolved without the
local and PyTorch-index sources of the CPU build of torch, which it would take otherwise.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from uv_environment import read_pip_settings, uv_environment, uv_options

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
UV = ROOT / ".venv" / "bin" / "uv"
MADE_BY = (
    "# Made by `make lock` for Python 3.11 on Linux x86-64. Versions and hashes, no addresses."
)
IN_IMAGES = ("student", "embeddings")
"""What the Dockerfile's images have beside an engine; versions are those that the tests ran with."""
NOT_RUN = "# Resolved, but not run: no machine with a GPU was at hand."


def main() -> int:
    """Make the lock files: of set-up itself, of a checkout (ENGINE-dev), of an image (ENGINE)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    upgrade = parser.parse_args().upgrade
    _compile("bootstrap", ["requirements/bootstrap.in"], [MADE_BY], upgrade=upgrade)
    for engine, heads in (("cpu", [MADE_BY]), ("gpu", [MADE_BY, NOT_RUN])):
        source = ["pyproject.toml", "--extra", engine, "--extra", "dev"]
        torch_sources = engine == "cpu"
        _compile(f"{engine}-dev", source, heads, upgrade=upgrade, torch_sources=torch_sources)
        source = ["pyproject.toml", "--constraint", f"requirements/{engine}-dev.txt"]
        for extra in (engine, *IN_IMAGES):
            source += ["--extra", extra]
        _compile(engine, source, heads, upgrade=True, torch_sources=torch_sources)
    return 0


def _compile(
    name: str, source: list[str], heads: list[str], *, upgrade: bool, torch_sources: bool = False
) -> None:
    lock = ROOT / "requirements" / f"{name}.txt"
    pip = read_pip_settings(PYTHON)
    command: list[str | Path] = [UV, "pip", "compile", *source, "--python", PYTHON]
    command += ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"]
    command += ["--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-header"]
    command += ["--no-annotate", "--quiet", *uv_options(pip)]
    command += ["--upgrade"] if upgrade else []
    environment = uv_environment(pip, extra_indexes=False, find_links=torch_sources)
    print(f"resolving {lock.relative_to(ROOT)}", flush=True)
    temporary = lock.with_suffix(".new")
    try:
        if lock.exists():
            temporary.write_text(lock.read_text())
        done = subprocess.run(
            [*command, "--output-file", temporary], cwd=ROOT, env=environment, check=False
        )
        if done.returncode:
            raise SystemExit(done.returncode)
        locked = [line for line in temporary.read_text().splitlines() if line not in heads]
        temporary.write_text("\n".join([*heads, *locked]) + "\n")
        temporary.replace(lock)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
