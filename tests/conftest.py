"""Rules of every test session: which skips are allowed, and what `verify` means.

Every skip is printed with its reason. A reason that is not allowed fails the session, so that a
test that stops running is noticed.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings

from pipeline.threads import share_cores

# A shared machine pauses a test at any time; no test is about that.
settings.register_profile("evoloom", deadline=None)
settings.load_profile("evoloom")

# Before a test loads torch: other tests, and an engine, compute on the same cores.
share_cores()

# A shell without job control starts what it puts into the background with SIGINT ignored, and so are
# all that it starts: tests that send one would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_SKIPS = pytest.StashKey["Skips"]()


@dataclass
class Skips:
    """What the session skipped, and the reasons it may have."""

    allowed: frozenset[str]
    seen: list[tuple[str, str]] = field(default_factory=list)

    def not_allowed(self) -> list[tuple[str, str]]:
        return [(where, reason) for where, reason in self.seen if reason not in self.allowed]


class SkipRecorder:
    """Collects the skips of tests and of whole modules."""

    def __init__(self, skips: Skips) -> None:
        self._skips = skips

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skips.seen.append((report.nodeid, _reason(report)))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._skips.seen.append((report.nodeid, _reason(report)))


def pytest_configure(config: pytest.Config) -> None:
    shared = config.rootpath.parent / "shared"
    allowed = {"no GPU"} | (set() if shared.is_dir() else {"no ../shared"})
    config.stash[_SKIPS] = Skips(frozenset(allowed))
    config.pluginmanager.register(SkipRecorder(config.stash[_SKIPS]), "evoloom-skips")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever is marked `verify_AREA` is marked `verify`, which `make test` leaves out."""
    for item in items:
        if any(marker.name.startswith("verify_") for marker in item.iter_markers()):
            item.add_marker("verify")


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    if session.config.stash[_SKIPS].not_allowed() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return (yield)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    skips = config.stash[_SKIPS]
    if not skips.seen:
        return
    terminalreporter.section("skipped")
    for where, reason in skips.seen:
        terminalreporter.line(f"{where}: {reason}")
    if wrong := skips.not_allowed():
        allowed = " and ".join(repr(reason) for reason in sorted(skips.allowed))
        terminalreporter.line(
            f"FAILED: {len(wrong)} skip(s) for another reason than {allowed}", red=True, bold=True
        )


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    longrepr = report.longrepr
    said = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return said.removeprefix("Skipped: ")


@pytest.fixture
def checkout(pytestconfig: pytest.Config) -> Path:
    """The folder that holds pyproject.toml."""
    return pytestconfig.rootpath
