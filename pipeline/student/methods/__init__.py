"""The methods of fine-tuning: `get_method("lora")`, and `METHODS`, all of them by name.

A method is a file of this package that has a `METHOD`; nothing else registers it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import Field, create_model

from pipeline.errors import UsageError
from pipeline.sections import Section
from pipeline.student.methods.base import (
    Method,
    MethodSettings,
    Plan,
    Prepared,
    Serving,
    load_causal_model,
)


def _find_methods() -> dict[str, Method[Any]]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    methods = [module.METHOD for module in modules if hasattr(module, "METHOD")]
    return {method.name: method for method in methods}


METHODS: Mapping[str, Method[Any]] = _find_methods()

if TYPE_CHECKING:
    MethodsSettings: TypeAlias = Section
else:
    MethodsSettings = create_model(
        "MethodsSettings",
        __base__=Section,
        __doc__="The methods of fine-tuning, a group each; `evoloom train --method NAME`.",
        **{
            name: (method.settings_type, Field(default_factory=method.settings_type))
            for name, method in METHODS.items()
        },
    )


def get_method(name: str) -> Method[Any]:
    """The method of that name.

    Raises:
        UsageError: there is none; the message lists them.
    """
    if name not in METHODS:
        raise UsageError(
            f"there is no fine-tuning method '{name}'; there are {', '.join(sorted(METHODS))}"
        )
    return METHODS[name]


__all__ = ["METHODS", "Method", "MethodSettings", "MethodsSettings", "Plan", "Prepared", "Serving",
           "get_method", "load_causal_model"]  # fmt: skip
