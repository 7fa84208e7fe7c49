"""A process that queries the snapshot in a loop, as an analyst does, until a file named `stop` appears.

    python -m tests.support.analysts STORE KIND

KIND is `reopen` (a notebook that opens the published name each time), `hold` (one that keeps what it
opened, a BI tool), `reader` (a service: `SnapshotReader`) or `command` (`evoloom sql`). After each
round of queries it prints the generation that it read and the runs in it; any failure ends it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import duckdb

from store.snapshot import SnapshotReader, snapshot_link

QUERIES = (
    "SELECT run_id, stage, outcome, reason, count FROM funnel",
    "SELECT * FROM dataset_statistics",
    "SELECT run_id, max(depth), count(*) FROM lineage GROUP BY run_id",
    "SELECT * FROM teacher_usage",
    "SELECT * FROM length_distribution",
)
_ABOUT = "SELECT generation, run_ids FROM snapshot"
# In a snapshot that is half there is a run without its rows, or a row without its run.
WHOLE = """
SELECT (SELECT list(run_id ORDER BY run_id) FROM runs) = (SELECT run_ids FROM snapshot)
   AND (SELECT count(*) FROM instances ANTI JOIN instructions ON instructions.id = instruction_id) = 0
   AND (SELECT sum(accepted) FROM runs)
     = (SELECT count(*) FROM instructions WHERE state = 'accepted')
"""


def main(store_path: Path, kind: str) -> None:
    """Query until told to stop."""
    stop = store_path.with_name("stop")
    with ExitStack() as stack:
        look = _command(store_path) if kind == "command" else _open(stack, store_path, kind)
        while not stop.exists():
            generation, run_ids = look()
            print(json.dumps([generation, run_ids]), flush=True)
            time.sleep(0.2)  # an analyst thinks


def _open(stack: ExitStack, store_path: Path, kind: str) -> Callable[[], tuple[int, list[str]]]:
    link = snapshot_link(store_path)
    if kind == "reader":
        reader = stack.enter_context(SnapshotReader(store_path))
        return lambda: _ask(reader.current())
    if kind == "reopen":
        return lambda: _ask(duckdb.connect(link, read_only=True))
    held = duckdb.connect(link.resolve(), read_only=True)
    return lambda: _ask(held.cursor())


def _ask(connection: duckdb.DuckDBPyConnection) -> tuple[int, list[str]]:
    with connection:
        for query in QUERIES:
            connection.execute(query).fetchall()
        assert connection.execute(WHOLE).fetchone() == (True,)
        row = connection.execute(_ABOUT).fetchone()
        assert row is not None
        return row[0], row[1]


def _command(store_path: Path) -> Callable[[], tuple[int, list[str]]]:
    query = "SELECT generation, run_ids, (SELECT sum(count) FROM funnel) AS counted FROM snapshot"

    def look() -> tuple[int, list[str]]:
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", "sql", query, "--format", "json", "--store",
             str(store_path)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (row,) = json.loads(done.stdout)
        assert row["counted"] > 0
        return row["generation"], row["run_ids"]

    return look


class Analyst:
    """The process, seen from a test."""

    def __init__(self, store_path: Path, kind: str) -> None:
        self.kind = kind
        self._out = store_path.with_name(f"analyst-{kind}.out")
        self._err = store_path.with_name(f"analyst-{kind}.err")
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.analysts", str(store_path), kind],
                cwd=Path(__file__).resolve().parents[2], stdout=out, stderr=err,
            )  # fmt: skip

    def rounds(self) -> list[tuple[int, list[str]]]:
        """Generation and runs of each round so far; it has not failed."""
        assert self._process.poll() in (None, 0), f"{self.kind}: {self._err.read_text()}"
        lines = self._out.read_text().splitlines(keepends=True)
        return [tuple(json.loads(line)) for line in lines if line.endswith("\n")]

    def wait(self) -> int:
        """Its exit code."""
        return self._process.wait(120)

    def kill(self) -> None:
        """End it, if it has not ended."""
        self._process.kill()
        self._process.wait()


@contextmanager
def analysts(store_path: Path, kinds: tuple[str, ...]) -> Iterator[list[Analyst]]:
    """Analysts at work."""
    started = [Analyst(store_path, kind) for kind in kinds]
    try:
        yield started
    finally:
        for analyst in started:
            analyst.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
