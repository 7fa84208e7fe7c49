"""The dashboard's own files, as they are served: nothing else can be asked for by this way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from flows.reporting import palette

PREFIX = "/dashboard/"
INDEX = "index.html"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_STATES = {
    "accepted": palette.ACCEPTED,
    "rejected": palette.REJECTED,
    "surplus": palette.SURPLUS,
    "unsettled": palette.UNSETTLED,
    "neutral": palette.NEUTRAL,
    "first": palette.DATASETS[0],
    "second": palette.DATASETS[1],
    **{f"tokens-{name}": colour for name, colour in palette.TOKENS.items()},
}


@dataclass(frozen=True, slots=True)
class File:
    """A file with what its answer says of it."""

    content: bytes
    media_type: str
    etag: str


def read_files() -> dict[str, File]:
    """Every file by its path below PREFIX; colours and letters come from the reports' palette."""
    found = dict(_walk(files("api.dashboard") / "static", ""))
    found["palette.css"] = _file("palette.css", _palette_css().encode())
    found["palette.js"] = _file("palette.js", _palette_js().encode())
    return found


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, File]]:
    for entry in folder.iterdir():
        name = f"{prefix}{entry.name}"
        if entry.is_dir():
            yield from _walk(entry, f"{name}/")
        elif _suffix(entry.name) in _TYPES:
            yield name, _file(name, entry.read_bytes())


def _file(name: str, content: bytes) -> File:
    digest = hashlib.blake2b(content, digest_size=12).hexdigest()
    return File(content, _TYPES[_suffix(name)], f'"{digest}"')


def _suffix(name: str) -> str:
    return f".{name.rpartition('.')[2]}"


def _palette_css() -> str:
    lines = [f"  --{name}: {colour};" for name, colour in _STATES.items()]
    return "\n".join(
        [
            ":root {",
            *lines,
            f"  --on-sector: {palette.TEXT};",
            f"  --font: {palette.FONT};",
            "}",
            "",
        ]
    )


def _palette_js() -> str:
    """The verbs' colours in their order, each with that of its nouns."""
    colours = palette.verb_colours(map(str, range(24))).values()
    pairs = [[colour, palette.mix(colour, "#ffffff", palette.NOUN_TINT)] for colour in colours]
    return f"export const VERBS = {json.dumps(pairs)};\n"
