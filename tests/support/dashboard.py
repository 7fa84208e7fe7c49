"""The dashboard in Debian's Chromium, watched for everything that it complains of."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

WIDE, NARROW = 1280, 390
PAYLOAD = "<img src=x onerror=\"window.injected=1\"><script>window.injected=2</script> {{7*7}} 'x'"
"""Markup that runs if it is taken for such."""
# Chromium says so of every answer that is an error, also of those that a form expects.
_ANSWER = re.compile(r"Failed to load resource: the server responded with a status of (\d+)")
LIMIT_MS = 120_000


@dataclass
class Watched:
    """A page, what its console and its scripts complained of, and what it asked other hosts for."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    """Statuses of answers that were errors."""

    def open(self, address: str, heading: str | re.Pattern[str] | None = None) -> None:
        """Go to a page of the dashboard and wait until it shows what it is about."""
        self.page.goto(f"{self.url}/#/{address}")
        self.settled(heading)

    def settled(self, heading: str | re.Pattern[str] | None = None) -> None:
        """Wait until nothing of the page says that it is loading."""
        if heading is not None:
            expect(self.page.get_by_role("heading", level=1)).to_have_text(heading)
        expect(self.page.get_by_text("Loading…")).to_have_count(0)

    def check(self, *expected: int) -> None:
        """Nothing was complained of, nothing injected, nobody else asked; answers that were errors
        are exactly those expected."""
        assert self.complaints == []
        assert self.elsewhere == []
        assert self.refused == list(expected)
        assert self.page.evaluate("window.injected") is None

    def violations(self) -> list[str]:
        """What axe-core finds serious or critical on the page as it is."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {node['target']} {node.get('failureSummary', '')}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        return int(
            self.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
        )


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium without a window."""
    program = shutil.which("chromium")
    assert program, "not installed: chromium; sh scripts/install-system-packages.sh installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def watched(
    browser: Browser, url: str, *, width: int = WIDE, scheme: Any = "light", **options: Any
) -> Iterator[Watched]:
    """A fresh page on a service, with nothing stored."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce",
        accept_downloads=True, **options,
    )  # fmt: skip
    # axe-core is handed to the page by the debugger, which no policy concerns; what the page itself
    # does is under its policy.
    context.set_default_timeout(LIMIT_MS)
    page = context.new_page()
    expect.set_options(timeout=LIMIT_MS)
    seen = Watched(page, url)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("console", lambda message: _note(seen, message.type, message.text))

    def note_request(request: Request) -> None:
        if not request.url.startswith((f"{url}/", "blob:", "data:")):
            seen.elsewhere.append(request.url)

    page.on("request", note_request)
    try:
        yield seen
    finally:
        context.close()


def _note(seen: Watched, kind: str, text: str) -> None:
    if match := _ANSWER.match(text):
        seen.refused.append(int(match[1]))
    elif kind in ("error", "warning"):
        seen.complaints.append(text)


def shoot(seen: Watched, folder: Path, name: str) -> None:
    """A picture of the whole page, to be looked at by people."""
    folder.mkdir(parents=True, exist_ok=True)
    seen.page.screenshot(path=folder / f"{name}.png", full_page=True)
