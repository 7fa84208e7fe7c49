"""A training says what it does itself."""

from __future__ import annotations

from typing import Any


def quieten() -> None:
    """The libraries' own reports and bars say again what evoloom says."""
    import warnings

    import datasets
    import transformers

    logging: Any = transformers.utils.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", module=r"(peft|trl|transformers|accelerate)\b")
