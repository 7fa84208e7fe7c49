"""The steps there are, by the name that recipes call them by. Each is a file of this folder."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from pipeline.curation.step import Step


def _find_steps() -> dict[str, type[Step]]:
    found: dict[str, type[Step]] = {}
    for module in pkgutil.iter_modules(__path__):
        content = importlib.import_module(f"{__name__}.{module.name}")
        for value in vars(content).values():
            if isinstance(value, type) and issubclass(value, Step) and "step" in vars(value):
                found[value.step] = value
    return dict(sorted(found.items()))


STEPS: Mapping[str, type[Step]] = _find_steps()
