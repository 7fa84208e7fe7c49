"""The one line of an engine's log that a user is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.teacher.engine_log import MAX_CHARS, telling_line

PREFIX = "(EngineCore pid=25214) ERROR 11-21 04:40:32 [core.py:1512] "


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("", ""),
        ("\n \n", ""),
        ("INFO:     Started server process [7]\n", "INFO:     Started server process [7]"),
        (
            f"{PREFIX}Traceback (most recent call last):\n"
            f'{PREFIX}  File "core.py", line 1, in step\n'
            f"{PREFIX}ValueError: Available memory is less than desired\n"
            "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above."
            " Failed core proc(s): {}\n",
            "ValueError: Available memory is less than desired",
        ),
        (
            "usage: api_server.py [-h]\napi_server.py: error: unrecognized arguments: --bogus\n",
            "api_server.py: error: unrecognized arguments: --bogus",
        ),
        (
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
            "  Value error, max_model_len (9000) is greater than 8192\n"
            "    For further information visit a page\n",
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig "
            "Value error, max_model_len (9000) is greater than 8192 "
            "For further information visit a page",
        ),
        (f"{PREFIX}torch.OutOfMemoryError: no\nlast words\n", "torch.OutOfMemoryError: no"),
        ("KeyboardInterrupt\n", "KeyboardInterrupt"),
        ("AssertionError\n", "AssertionError"),
        ("INFO no Error: here\nthe end\n", "the end"),
    ],
)
def test_telling_line(tmp_path: Path, log: str, line: str) -> None:
    path = tmp_path / "engine.log"
    path.write_text(log)
    assert telling_line(path) == line


def test_long_line_is_cut(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("ValueError: " + "x" * 2 * MAX_CHARS)
    assert len(telling_line(tmp_path / "log")) == MAX_CHARS


def test_no_log(tmp_path: Path) -> None:
    assert telling_line(tmp_path / "none") == ""


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\xff\xfe\nValueError: \xe4\n")
    assert telling_line(tmp_path / "log").startswith("ValueError: ")
