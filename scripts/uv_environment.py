"""The environment uv runs in: what pip is configured with, in uv's words.

uv does not read pip's configuration, and a machine's package sources are known to pip. A setting
that is already there as UV_* wins.
"""

from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

# Later sections win: pip lets [install] override [global], and PIP_* override both.
_SECTIONS = ("global", "install", ":env:")
# Variables that would point uv at another environment than the one it is told to fill.
_DROPPED = ("VIRTUAL_ENV", "UV_SYSTEM_PYTHON", "UV_PROJECT_ENVIRONMENT", "UV_BREAK_SYSTEM_PACKAGES")


def read_pip_settings(python: Path) -> dict[str, str]:
    """The settings of pip in force, by name without its section, such as `find-links`."""
    listed = subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", "config", "list"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return parse_pip_settings(listed)


def parse_pip_settings(listed: str) -> dict[str, str]:
    """Settings from the output of `pip config list`: lines such as `global.cert='/a/b.crt'`."""
    by_section: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listed.splitlines():
        key, equals, quoted = line.partition("=")
        section, _, name = key.rpartition(".")
        if not equals or section not in by_section:
            continue
        try:
            by_section[section][name] = str(ast.literal_eval(quoted))
        except (ValueError, SyntaxError):
            continue
    return {name: value for section in _SECTIONS for name, value in by_section[section].items()}


def uv_environment(
    pip: Mapping[str, str],
    environment: Mapping[str, str] = os.environ,
    *,
    extra_indexes: bool = True,
    find_links: bool = True,
) -> dict[str, str]:
    """Variables to run uv with.

    Args:
        pip: pip's settings, by name.
        environment: the variables to start from.
        extra_indexes: hand over pip's extra indexes. They are often partial mirrors: right for
            installing what a lock names, wrong for making a lock, which then holds part of the
            hashes.
        find_links: hand over local files and EVOLOOM_TORCH_INDEX, the sources of the CPU build of
            torch.
    """
    links = pip.get("find-links", "").split() if find_links else []
    torch_index = environment.get("EVOLOOM_TORCH_INDEX", "").strip() if find_links else ""
    if torch_index:
        # Only the index's page for torch: nothing else is to be taken from there.
        links.append(_torch_page(torch_index))
    extra = pip.get("extra-index-url", "").split() if extra_indexes else []
    given = {
        "UV_FIND_LINKS": ",".join(links),
        "UV_DEFAULT_INDEX": pip.get("index-url", ""),
        "UV_INDEX": " ".join(extra),
        # pip weighs all its indexes alike; uv would take the first that knows a package's name.
        "UV_INDEX_STRATEGY": "unsafe-best-match" if extra else "",
        "UV_INSECURE_HOST": " ".join(pip.get("trusted-host", "").split()),
        "UV_HTTP_TIMEOUT": pip.get("timeout", pip.get("default-timeout", "")),
        "SSL_CERT_FILE": pip.get("cert", ""),
        "SSL_CLIENT_CERT": pip.get("client-cert", ""),
        "ALL_PROXY": pip.get("proxy", ""),
    }
    merged = {name: value for name, value in environment.items() if name not in _DROPPED}
    for name, value in given.items():
        if value and not merged.get(name):
            merged[name] = value
    if not find_links:
        merged.pop("UV_FIND_LINKS", None)
    return merged


def uv_options(pip: Mapping[str, str]) -> list[str]:
    """Options for uv's installing and resolving commands: what uv takes from no variable."""
    no_index = pip.get("no-index", "").lower() in ("1", "true", "yes", "on")
    return ["--no-index"] if no_index else []


def _torch_page(index: str) -> str:
    if urlsplit(index).path.rstrip("/").endswith("/torch"):
        return index
    return index.rstrip("/") + "/torch/"
