"""A flow's process and the pipe to its worker."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import os, sys
from rich.console import Console
from flows.prefect_output import outlive_worker
outlive_worker()
console = Console(file=sys.stderr)
sys.stdin.read()  # until the reader is gone
for number in range(3):
    console.print(number)
    print(number, flush=True)
os._exit(7)
"""


@pytest.mark.parametrize(("environment", "code"), [({"PREFECT__FLOW_RUN_ID": "x"}, 7), ({}, 1)])
def test_a_flow_goes_on_when_its_worker_is_gone(environment: dict[str, str], code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CODE], env={**os.environ, **environment}, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    process.stderr.close()
    process.stdin.close()
    assert process.wait(60) == code
