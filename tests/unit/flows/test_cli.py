"""What the command line makes of errors that are nobody's mistake in it."""

from __future__ import annotations

import errno
import os

import pytest
import typer

from flows import cli
from tests.support.cli import InProcess


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_is_told_without_a_traceback(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _raising(monkeypatch, OSError(number, os.strerror(number), "night/journal.jsonl"))
    ended = InProcess(monkeypatch, capsys)("write")
    assert ended.code == 1
    assert ended.err == (
        f"evoloom: night/journal.jsonl: {os.strerror(number)}. Make room, then try again\n"
    )


def test_any_other_is_a_defect_and_shows_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _raising(monkeypatch, OSError(errno.EIO, "Input/output error", "night/journal.jsonl"))
    with pytest.raises(OSError, match="Input/output error"):
        InProcess(monkeypatch, capsys)("write")


@pytest.mark.parametrize("given", [None, "ACTIVE"])
def test_threads_of_torch_share_the_cores_where_nobody_says_otherwise(
    given: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY")
    if given is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    assert InProcess(monkeypatch, capsys)("config", "--help").code == 0
    assert os.environ["OMP_WAIT_POLICY"] == (given or "PASSIVE")


def _raising(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def write() -> None:
        raise error

    @app.command()
    def other() -> None: ...

    monkeypatch.setattr(cli, "app", app)
