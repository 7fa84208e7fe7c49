"""`evoloom --help` answers at once because the command line imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "duckdb", "numba", "numpy", "openai", "pandas", "polars", "prefect", "pyarrow", "torch",
    "transformers", "vllm",
}  # fmt: skip

IMPORT = "import flows.cli"
HELP = """
import flows.cli
sys.argv = ["evoloom", *{arguments!r}]
try:
    flows.cli.main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""


def modules_after(program: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a program."""
    code = f"import sys\n{program}\nprint('loaded:', *sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.splitlines()[-1].split()
    assert loaded[0] == "loaded:"
    return {name.partition(".")[0] for name in loaded[1:]}


def test_the_command_line_imports_nothing_heavy() -> None:
    assert not modules_after(IMPORT) & HEAVY


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "self-instruct", "--help"], ["store", "--help"]]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert not modules_after(HELP.format(arguments=arguments)) & HEAVY
