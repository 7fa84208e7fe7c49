"""How fast the store is: import, verb-noun parsing, every view, publishing, at growing sizes.

The real part imports the 52,002 rows of Alpaca by the command line and analyses them. The growth is
measured on drawn runs: an import, an evolution of some of it with its completions, and a dataset
version of some of that, together as many instructions, each with one instance. A view's time is
that of asking for its rows and all its columns, of all runs together: the median of three.

CPU seconds stand beside the seconds: on a machine that others use too, half of them is what two free
cores would take at best.

    python -m benchmarks.store [--quick] [--sizes 10000 100000] [--out FILE]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl

from pipeline.records import (
    Batch,
    CompletionRow,
    InstanceRow,
    InstructionRow,
    Position,
    Usage,
)
from store.analysis import PARSES, SCORES, write_parses, write_scores
from store.ingest import ingest
from store.new_run import NewRun
from store.snapshot import open_snapshot, publish

ROOT = Path(__file__).resolve().parents[1]
ALPACA = ROOT.parent / "shared" / "data" / "alpaca" / "alpaca_data_52002.jsonl.gz"
SIZES = (10_000, 100_000, 1_000_000)
AIMS = {"import_s": 30.0, "parsed_per_s": 2000.0, "view_s": 1.0}
_REPEATS = 3
_VERBS, _NOUNS, _PAIRS = 600, 40_009, 2_000_000


@dataclass(frozen=True, slots=True)
class Spent:
    """What something took, in seconds; `cpu_s` is of this process and those it waited for."""

    wall_s: float
    cpu_s: float


def spend(call: Callable[[], object]) -> Spent:
    """Call it and look at the clocks."""
    started, cpu = time.perf_counter(), sum(os.times()[:4])
    call()
    return Spent(time.perf_counter() - started, sum(os.times()[:4]) - cpu)


def run_command(*arguments: str) -> None:
    """Run the command line to its end."""
    subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments], cwd=ROOT, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "EVOLOOM_STORE__ANALYSE": "false"},
    )  # fmt: skip


def measure_real(folder: Path, rows: int | None) -> dict[str, Any]:
    """Import Alpaca, parse it, analyse it, ask every view."""
    from pipeline.diversity import analyse

    with gzip.open(ALPACA, "rt", encoding="utf-8") as file:
        lines = file.readlines()[:rows]
    texts = list(dict.fromkeys(json.loads(line)["instruction"] for line in lines))
    source, store = folder / "alpaca.jsonl", folder / "alpaca.duckdb"
    source.write_text("".join(lines), "utf-8")
    place = ("--store", str(store))
    imported = spend(lambda: run_command("import", str(source), "--name", "alpaca", *place))
    parsed = spend(lambda: analyse(texts, "mended", processes=2))
    analysed = spend(lambda: run_command("store", "analyse", "--processes", "2", *place))
    return {
        "rows": len(lines),
        "instructions": len(texts),
        "import_s": round(imported.wall_s, 2),
        "import_cpu_s": round(imported.cpu_s, 2),
        "parsed_per_s": round(len(texts) / parsed.wall_s),
        "parsed_per_cpu_s": round(len(texts) / parsed.cpu_s),
        "analyse_both_methods_and_novelty_s": round(analysed.wall_s, 2),
        "analyse_both_methods_and_novelty_cpu_s": round(analysed.cpu_s, 2),
        **time_views(store),
    }


def measure_drawn(folder: Path, size: int) -> dict[str, Any]:
    """Write, ingest and publish drawn runs of `size` instructions, and ask every view."""
    store = folder / f"drawn-{size}.duckdb"
    steps = {
        "write": spend(lambda: write_runs(store, size)),
        "ingest": spend(lambda: ingest(store)),
        "publish": spend(lambda: publish(store)),
    }
    add_analysis(store)
    publish(store)
    return {
        "instances": size,
        **{f"{name}_s": round(spent.wall_s, 3) for name, spent in steps.items()},
        **{f"{name}_cpu_s": round(spent.cpu_s, 3) for name, spent in steps.items()},
        "file_mib": round(store.stat().st_size / 2**20),
        **time_views(store),
    }


def write_runs(store: Path, size: int) -> None:
    """Eight tenths imported, a tenth evolved in two rounds, a tenth taken into a dataset version."""
    rng = random.Random("store")
    imported, tenth = size - 2 * (size // 10), size // 10
    with NewRun(store, "imported") as run:
        for number in range(1, imported + 1):
            run.write([_batch(rng, "import", number, None)])
        run.finish({"kind": "import"})
    half = tenth // 2
    with NewRun(store, "evolved") as run:
        for number in range(half):
            run.write([_batch(rng, "source", number, f"imported import/{number + 1}")])
        for number in range(tenth - half):
            run.write([_batch(rng, "evolve", number, f"source:{number % half}")])
        run.finish({"kind": "evol-instruct", "config": {"prices": {"prompt": 1, "completion": 2}}})
    with NewRun(store, "taken@2026-11-21.1") as run:
        for number in range(tenth):
            run.write([_batch(rng, "dataset", number, f"imported import/{number + 1}")])
        run.finish({"kind": "dataset", "name": "taken", "version": "2026-11-21.1"})


def _batch(rng: random.Random, stage: str, number: int, parent: str | None) -> Batch:
    place: Position = (number,)
    text = f"Write number {number} of {stage}: " + "a few words " * rng.randint(1, 6)
    instruction = InstructionRow(
        stage, place, text, "accepted", is_classification=rng.choice([None, True, False]),
        parent=parent, operator="deepen" if stage == "evolve" else None,
        round=0 if stage == "evolve" else None, difficulty=rng.randint(1, 10),
    )  # fmt: skip
    output = "an answer of several words " * int(rng.expovariate(0.2))
    instance = InstanceRow(
        stage, place, 0, rng.choice(["", "some input"]), output + "end", "accepted"
    )
    completions = () if stage in ("import", "dataset") else (_completion(rng, stage, place),)
    return Batch(stage, place, completions, (instruction,), (instance,))


def _completion(rng: random.Random, stage: str, place: Position) -> CompletionRow:
    return CompletionRow(
        stage, place, 0, "used", None, "an answer", "stop", Usage(rng.randint(50, 900), 60, 40),
        1024, rng.expovariate(1), "2026-11-20T23:15:00+00:00", "teacher",
    )  # fmt: skip


def add_analysis(store: Path) -> None:
    """Parses by both rules and novelty scores, drawn; few verbs and nouns take most of the texts."""
    with duckdb.connect(store, read_only=True) as connection:
        texts = connection.sql("SELECT DISTINCT text FROM instructions").pl()["text"]
        ids = connection.sql(
            "SELECT id, run_id, count(*) OVER (PARTITION BY run_id) AS size FROM instructions"
        ).pl()
    for method in ("mended", "published"):
        write_parses(store, "drawn 1", _parses(texts, method))
    for (run_id,), rows in ids.group_by("run_id"):
        write_scores(store, str(run_id), _scores(rows))


def _parses(texts: pl.Series, method: str) -> pl.DataFrame:
    """Pairs as frequent as in Alpaca, in which 84% of the texts have one, the commonest is 2.5% of
    them, and 4,258 texts hold 1,923 distinct pairs, 16,897 hold 5,066."""
    rng = np.random.default_rng([*method.encode()])
    weights = (np.arange(_PAIRS) + 9.0) ** -1.22
    cumulative = weights.cumsum() / weights.sum()
    ranks = np.searchsorted(cumulative, rng.random(len(texts))).clip(max=_PAIRS - 1)
    drawn = rng.random(len(texts))
    has_pair, is_question = drawn < 0.84, drawn > 0.93

    def name(prefix: str, factor: int, most: int) -> list[str | None]:
        return [
            f"{prefix}{rank * factor % most}" if has else None
            for rank, has in zip(ranks.tolist(), has_pair.tolist(), strict=True)
        ]

    return pl.DataFrame(
        {
            "text": texts, "method": method, "parser_version": "drawn 1",
            "kind": ["question" if question else "imperative" for question in is_question.tolist()],
            "verb": name("verb", 7919, _VERBS), "noun": name("noun", 104_729, _NOUNS),
            "question_word": ["what" if question else None for question in is_question.tolist()],
            "further": [[]] * len(texts),
        },
        schema=PARSES,
    )  # fmt: skip


def _scores(rows: pl.DataFrame) -> pl.DataFrame:
    rng = random.Random("scores")
    drawn = {name: [rng.random() for _ in range(rows.height)] for name in ("seed", "pool")}
    return pl.DataFrame(
        {
            "instruction_id": rows["id"], "run_id": rows["run_id"], "seed_score": drawn["seed"],
            "seed_id": "seed_1", "pool_score": drawn["pool"], "pool_id": rows["id"],
            "pool_size": rows["size"],
        },
        schema=SCORES,
    )  # fmt: skip


def time_views(store: Path) -> dict[str, dict[str, float]]:
    """What each view takes for all its rows and columns, in seconds and in CPU seconds."""
    with open_snapshot(store) as connection:
        names = connection.execute(
            "SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY 1"
        ).fetchall()
        spent = {name: _time_view(connection, name) for (name,) in names}
    return {
        "views_s": {name: round(item.wall_s, 3) for name, item in spent.items()},
        "views_cpu_s": {name: round(item.cpu_s, 3) for name, item in spent.items()},
    }


def _time_view(connection: duckdb.DuckDBPyConnection, name: str) -> Spent:
    columns = [row[0] for row in connection.execute(f"DESCRIBE {name}").fetchall()]
    read = ", ".join(f'max("{column}")' for column in columns)
    query = f"SELECT count(*), {read} FROM {name}"
    spent = [spend(lambda: connection.execute(query).fetchall()) for _ in range(_REPEATS)]
    return sorted(spent, key=lambda item: item.wall_s)[_REPEATS // 2]


def print_report(report: dict[str, Any]) -> None:
    """The figures as tables."""
    real, drawn = report.get("alpaca"), report["growth"]
    if real:
        print(
            f"alpaca: {real['rows']} rows, {real['instructions']} instructions (aims in brackets)"
        )
        for name, value in real.items():
            aim = f" ({AIMS[name]:g})" if name in AIMS else ""
            if not isinstance(value, dict):
                print(f"  {name:<40} {value}{aim}")
    columns = ([("alpaca", real)] if real else []) + [
        (f"{row['instances']:,}", row) for row in drawn
    ]
    print(f"\n{'seconds (CPU seconds)':<24}" + "".join(f"{name:>18}" for name, _ in columns))
    for name in ("write", "ingest", "publish"):
        cells = [_cell(row.get(f"{name}_s"), row.get(f"{name}_cpu_s")) for _, row in columns]
        print(f"{name:<24}" + "".join(cells))
    for name in columns[0][1]["views_s"]:
        cells = [_cell(row["views_s"][name], row["views_cpu_s"][name]) for _, row in columns]
        print(f"{name:<24}" + "".join(cells))
    slow = [f"{name} on {where}" for where, row in columns
            for name, seconds in row["views_s"].items() if seconds >= AIMS["view_s"]]  # fmt: skip
    print(f"\nviews over {AIMS['view_s']:g} s: {', '.join(slow) or 'none'}")
    print(f"load: {report['load_before']} before, {report['load_after']} after")


def _cell(wall_s: float | None, cpu_s: float | None) -> str:
    return f"{'-':>18}" if wall_s is None else f"{f'{wall_s} ({cpu_s})':>18}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of Alpaca, 10,000 instances")
    parser.add_argument("--sizes", type=int, nargs="+", default=None)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    sizes = options.sizes or (SIZES[:1] if options.quick else SIZES)
    report: dict[str, Any] = {
        "hardware": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}",
        "load_before": [round(value, 1) for value in os.getloadavg()],
        "duckdb": duckdb.__version__, "aims": AIMS,
    }  # fmt: skip
    out = options.out or (None if options.quick else ROOT / "benchmarks" / "results" / "store.json")
    with tempfile.TemporaryDirectory() as folder:
        if ALPACA.exists():
            report["alpaca"] = measure_real(Path(folder), 5_200 if options.quick else None)
        report["growth"] = []
        for size in sizes:
            report["growth"].append(measure_drawn(Path(folder), size))
            report["load_after"] = [round(value, 1) for value in os.getloadavg()]
            if out is not None:  # after each size: the largest takes many minutes
                out.write_text(json.dumps(report, indent=2) + "\n")
    print_report(report)


if __name__ == "__main__":
    main()
