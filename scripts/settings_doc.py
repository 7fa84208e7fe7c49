"""Writes docs/SETTINGS.md from the settings' models; `--check` only compares.

Usage: python scripts/settings_doc.py [--check]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pydantic import BaseModel, create_model  # noqa: E402
from pydantic.fields import FieldInfo  # noqa: E402

from pipeline.config import Settings, operational_keys  # noqa: E402

PAGE = ROOT / "docs" / "SETTINGS.md"
# Defaults that differ from machine to machine.
_SHOWN = {"engine.cache_dir": "`$XDG_CACHE_HOME/evoloom` or `~/.cache/evoloom`"}
_HEAD = """# Settings

<!-- Made by scripts/settings_doc.py from the docstrings in pipeline/; edit those. -->

A value comes from a TOML file (`evoloom.toml` in the working directory, or `--config`, or
`EVOLOOM_CONFIG`), over it from the environment (`EVOLOOM_<SECTION>__<KEY>`, such as
`EVOLOOM_TEACHER__BASE_URL`), over that from flags (`--set section.key=VALUE`). Lists are written
`["a", "b"]` in all three. `evoloom config show` tells each value in force and where it came from.

*Pinned* settings decide what the data is: they are in a run's manifest and cannot be changed on
`evoloom resume`. *Operational* ones can. Times are in seconds where a name ends in `_s`.
"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for name, field in Settings.model_fields.items():
        model = field.annotation
        assert isinstance(model, type) and issubclass(model, BaseModel)
        about = " ".join((model.__doc__ or "").split())
        parts.append(f"\n## {name}\n\n{about}\n")
        parts.append("| setting | type | default | on resume | meaning |\n|---|---|---|---|---|")
        default = field.get_default(call_default_factory=True)
        parts += [_row(*item) for item in _leaves(model, default, f"{name}.")]
    return "\n".join(parts) + "\n"


def _leaves(
    model: type[BaseModel], value: Any, prefix: str
) -> Iterator[tuple[str, FieldInfo, Any]]:
    for name, field in model.model_fields.items():
        inner = getattr(value, name)
        if isinstance(inner, BaseModel):
            yield from _leaves(type(inner), inner, f"{prefix}{name}.")
        else:
            yield prefix + name, field, inner


def _row(key: str, field: FieldInfo, value: Any) -> str:
    meaning = " ".join((field.description or "").split())
    kind = "operational" if key in operational_keys() else "pinned"
    default = _SHOWN.get(key) or f"`{json.dumps(value, ensure_ascii=False, default=str)}`"
    if value is None:
        default = "unset"
    cells = (f"`{key}`", _type(field), default, kind, meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(field: FieldInfo) -> str:
    schema = _schema(field)
    bounds = [
        f"{sign} {schema[name]:g}"
        for name, sign in (("exclusiveMinimum", ">"), ("minimum", "≥"),
                           ("exclusiveMaximum", "<"), ("maximum", "≤"))
        if name in schema
    ]  # fmt: skip
    return ", ".join([_name(schema), *bounds])


def _schema(field: FieldInfo) -> dict[str, Any]:
    """JSON schema of one field, without the `null` of an optional one."""
    model = create_model("One", value=(field.annotation, field))
    schema: dict[str, Any] = model.model_json_schema()["properties"]["value"]
    kinds = [kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"]
    return kinds[0] if kinds else schema


def _name(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        inner = _name(schema["items"])
        return f"list of ({inner})" if "enum" in schema["items"] else f"list of {inner}s"
    if schema.get("format") == "path":
        return "path"
    if schema.get("type") == "object":
        return "table"
    names = {"integer": "integer", "number": "number", "boolean": "true or false", "string": "text"}
    return names[schema["type"]]


def main() -> int:
    """Write the page, or say whether it is up to date."""
    text = page()
    if "--check" in sys.argv[1:]:
        if PAGE.exists() and PAGE.read_text("utf-8") == text:
            return 0
        print(f"{PAGE.relative_to(ROOT)} is out of date: run python scripts/settings_doc.py",
              file=sys.stderr)  # fmt: skip
        return 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
