"""The dashboard's files: what they may not hold, and that they can be read."""

from __future__ import annotations

import re

import pytest

from api.dashboard.files import INDEX, read_files
from api.dashboard.pages import CONTENT_SECURITY_POLICY
from flows.reporting import palette

FILES = {name: file.content.decode() for name, file in read_files().items()}
SCRIPTS = [name for name in FILES if name.endswith(".js")]
_THEMES = re.compile(r"(:root[^{]*)\{([^}]*--text[^}]*)\}")


def test_the_page_has_no_script_and_no_style_of_its_own() -> None:
    page = FILES[INDEX]
    assert all(" src=" in tag for tag in re.findall(r"<script[^>]*>", page))
    assert re.findall(r"<script[^>]*>\s*[^<\s]", page) == []
    assert "<style" not in page
    assert re.findall(r"\s(?:on\w+|style)=", page) == []


def test_the_policy_forbids_what_is_not_ours() -> None:
    rules = dict(part.split(" ", 1) for part in CONTENT_SECURITY_POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert rules["require-trusted-types-for"] == "'script'"


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_markup_or_code_of_text(name: str) -> None:
    found = re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc|createPolicy"
        r"|\beval\(|new Function|setTimeout\(\s*[\"'`]|javascript:",
        FILES[name],
    )
    assert found == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_import_files_that_are_there(name: str) -> None:
    folder = name.split("/")[:-1]
    for given in re.findall(r'from "([^"]+)"', FILES[name]):
        parts = list(folder)
        for part in given.split("/"):
            if part == "..":
                parts.pop()
            elif part != ".":
                parts.append(part)
        assert "/".join(parts) in FILES, given


def test_nothing_names_another_host() -> None:
    found = {
        (name, address)
        for name, text in FILES.items()
        for address in re.findall(r"https?://[^\s\"'<>)]+", text)
    }
    assert {address for _, address in found} == {"http://www.w3.org/2000/svg"}


def test_colours_are_those_of_the_reports() -> None:
    for name, colour in (("accepted", palette.ACCEPTED), ("first", palette.DATASETS[0])):
        assert f"--{name}: {colour};" in FILES["palette.css"]
    assert next(iter(palette.verb_colours(["write"]).values())) in FILES["palette.js"]


def test_text_has_contrast_in_both_themes() -> None:
    """WCAG 2.2, 1.4.3 and 1.4.11: 4.5 for text, 3 for the edge of a control and of the focus."""
    themes = _THEMES.findall(FILES["app.css"])
    assert len(themes) == 3  # light, dark, dark as the system's
    for _, block in themes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        for paper in ("paper", "panel"):
            for text in ("text", "quiet", "link"):
                assert palette.contrast(colours[text], colours[paper]) >= 4.5, (text, paper)
            for edge in ("edge", "focus"):
                assert palette.contrast(colours[edge], colours[paper]) >= 3, (edge, paper)
        assert palette.contrast(colours["text"], colours["bad-paper"]) >= 4.5
        assert palette.contrast(colours["bad"], colours["paper"]) >= 4.5
        assert palette.contrast(colours["button-text"], colours["button"]) >= 4.5


def test_both_dark_themes_are_the_same() -> None:
    _, chosen, followed = (
        re.findall(r"--[\w-]+: [^;]+", block) for _, block in _THEMES.findall(FILES["app.css"])
    )
    assert chosen == followed
