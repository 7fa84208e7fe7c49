"""`evoloom import`: every format, plain and gzipped, into a real store; what is refused, and how."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pytest
from pyarrow import parquet

from flows.importing import REJECTED
from pipeline.diversity.statistics import DatasetRow, compute_statistics
from store.run_directory import list_run_ids, read_manifest, runs_directory
from store.run_rows import RunRows, read_run_rows
from store.snapshot import open_snapshot
from tests.support.cli import ROOT, InProcess, clean, environment

Rows = list[dict[str, Any]]


@pytest.fixture
def evoloom(monkeypatch, capsys, tmp_path) -> InProcess:
    clean(monkeypatch, tmp_path)
    monkeypatch.setenv("EVOLOOM_STORE__ANALYSE", "false")
    return InProcess(monkeypatch, capsys)


def json_lines(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def json_array(rows: Rows) -> bytes:
    return json.dumps(rows, indent=1).encode()


def as_csv(rows: Rows) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_parquet(rows: Rows) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue()


PAIRS = [("Name a tree, 写一首诗.", "", "oak\r\n"), ("Add.", "1 2", "3"), ("Add.", "2 2", "4 😀")]
FLAT: Rows = [dict(zip(("instruction", "input", "output"), row, strict=True)) for row in PAIRS]
QA: Rows = [{"Question": row["instruction"], "context": row["input"], "Answer": row["output"]}
            for row in FLAT]  # fmt: skip
NESTED: Rows = [
    {"id": "a", "name": "n", "is_classification": False, "instruction": PAIRS[0][0],
     "instances": [{"input": "", "output": PAIRS[0][2]}]},
    {"id": "b", "name": "n", "is_classification": False, "instruction": "Add.",
     "instances": [{"input": given, "output": output} for _, given, output in PAIRS[1:]]},
]  # fmt: skip
TALKS: Rows = [
    {"conversations": [{"from": "human", "value": f"{text}{given}"}, {"from": "gpt", "value": out}]}
    for text, given, out in PAIRS
]
MESSAGES: Rows = [
    {"messages": [{"role": "user", "content": f"{text}{given}"},
                  {"role": "assistant", "content": out}]}
    for text, given, out in PAIRS
]  # fmt: skip
EVOLVED: Rows = [{"instruction": f"{text}{given}", "output": out} for text, given, out in PAIRS]
H2O: Rows = [{"source_file": "x", "input": f"{text}{given}", "output": out}
             for text, given, out in PAIRS]  # fmt: skip
JOINED = [(f"{text}{given}", "", out) for text, given, out in PAIRS]
FILES = [
    ("flat.jsonl", json_lines(FLAT), "alpaca", "json_lines", PAIRS),
    ("flat.json", json_array(FLAT), "alpaca", "json_array", PAIRS),
    ("seeds.jsonl", json_lines(NESTED), "self-instruct", "json_lines", PAIRS),
    ("talks.json", json_array(TALKS), "sharegpt", "json_array", JOINED),
    ("messages.jsonl", json_lines(MESSAGES), "messages", "json_lines", JOINED),
    ("evolved.jsonl", json_lines(EVOLVED), "evol-instruct", "json_lines", JOINED),
    ("h2o.json", json_array(H2O), "evol-instruct", "json_array", JOINED),
    ("table.csv", as_csv(QA), "csv", "csv", PAIRS),
    ("table.parquet", as_parquet(QA), "parquet", "parquet", PAIRS),
    ("messages.parquet", as_parquet(MESSAGES), "messages", "parquet", JOINED),
]


def imported(store: Path, run_id: str) -> RunRows:
    return read_run_rows(runs_directory(store) / run_id)


def triples(store: Path, run_id: str) -> list[tuple[str, str, str]]:
    """(instruction, input, output) of the accepted instances, in the store's order."""
    with open_snapshot(store) as connection:
        return connection.execute(
            "SELECT i.text, n.input, n.output FROM instances n JOIN instructions i "
            "ON i.id = n.instruction_id WHERE n.run_id = ? AND n.state = 'accepted' "
            'ORDER BY n.position, n."index"',
            [run_id],
        ).fetchall()


@pytest.mark.parametrize("is_zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("file", FILES, ids=[file[0] for file in FILES])
def test_every_format_is_detected_and_read(evoloom, tmp_path, store, file, is_zipped):
    name, data, told, container, expected = file
    path = tmp_path / (name + ".gz" if is_zipped else name)
    path.write_bytes(gzip.compress(data) if is_zipped else data)
    ended = evoloom("import", str(path), "--name", "got", "--store", str(store), "--json")
    assert (ended.code, ended.err) == (0, "")
    (report,) = json.loads(ended.out)["imports"]
    assert (report["format"], report["is_detected"]) == (told, True)
    assert triples(store, "got") == expected
    manifest = read_manifest(runs_directory(store) / "got").raw
    assert (manifest["kind"], manifest["import_format"]) == ("import", told)
    assert manifest["container"] == container
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert manifest["source"] == {
        "name": path.name, "bytes": path.stat().st_size, "sha256": digest
    }  # fmt: skip
    assert manifest["counts"] == report["counts"]
    assert (report["counts"]["instances"], report["counts"]["bad"]) == (3, {})
    if not is_zipped:  # an explicit format reads the same
        again = evoloom(
            "import", str(path), "--name", "told", "--format", told, "--store", str(store)
        )
        assert again.code == 0
        assert "(as told)" in again.out
        assert triples(store, "told") == expected


def test_instructions_have_their_origin_and_say_what_is_not_known(evoloom, tmp_path, store):
    rows = [*FLAT, FLAT[1], {**FLAT[1], "output": "5"}]
    (tmp_path / "data.jsonl").write_bytes(b"\n" + json_lines(rows))
    ended = evoloom("import", "data.jsonl", "--name", "got", "--store", str(store))
    assert ended.code == 0
    for line in ("rows                            5", "instructions                    2",
                 "instances                       5", "exact duplicates                1",
                 "classification unknown          2", "bad rows                        0"):  # fmt: skip
        assert line in ended.out
    assert f"evoloom export got --store {store}" in ended.out
    with open_snapshot(store) as connection:
        found = connection.execute(
            "SELECT text, origin, is_classification, state, generation FROM instructions "
            "ORDER BY position"
        ).fetchall()
        assert found == [
            (PAIRS[0][0], "data.jsonl line 2", None, "accepted", 1),
            ("Add.", "data.jsonl line 3", None, "accepted", 2),
        ]
        flags = connection.execute(
            'SELECT "index", is_duplicate, output FROM instances WHERE generation = 2 '
            'ORDER BY "index"'
        ).fetchall()
        assert flags == [(0, False, "3"), (1, False, "4 😀"), (2, True, "3"), (3, False, "5")]
        accepted = connection.execute("SELECT kind, state, accepted FROM runs").fetchall()
        assert accepted == [("import", "completed", 2)]
    shown = evoloom("runs", "show", "got", "--store", str(store)).out
    assert "5 rows of data.jsonl (alpaca): 2 instructions, 5 instances" in shown
    assert "None" not in shown
    assert "\ngot " in evoloom("runs", "--store", str(store)).out


def test_bad_lines_are_reported_kept_aside_and_in_the_funnel(evoloom, tmp_path, store):
    lines = [
        b'{"instruction": "a", "output": "1"}',
        b'{"instruction": "b", "output": "2"',
        b'{"instruction": "c", "output": "\xff"}',
        b'{"instruction": "d"}',
        b'{"instruction": "e", "output": 5}',
        b'{"instruction": "f\\u0000", "output": "6"}',
        b"[1]",
        b'{"instruction": "g", "output": ""}',
        b'{"instruction": "h", "output": "8 \\ud83d", "input": "\\ud83d\\ude00"}',
    ]
    (tmp_path / "data.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    ended = evoloom("import", "data.jsonl", "--name", "got", "--store", str(store))
    assert ended.code == 0
    reasons = ["not_json", "not_utf8", "missing_field", "wrong_type", "null_byte", "wrong_type"]
    for number, reason in enumerate(reasons[:5], 2):
        assert f"line {number}: {reason}: " in ended.out
    assert "line 7" not in ended.out
    assert "and 1 more" in ended.out
    assert "bad rows                        6" in ended.out
    assert "3, 1 empty_output rejected" in ended.out
    aside = (runs_directory(store) / "got" / REJECTED).read_text("ascii").splitlines()
    kept = [json.loads(line) for line in aside]
    assert [(row["line"], row["reason"]) for row in kept] == list(enumerate(reasons, 2))
    assert [row["raw"].encode("utf-8", "surrogateescape") for row in kept] == lines[1:7]
    # Lone surrogates cannot be stored in UTF-8; a split pair is joined.
    assert triples(store, "got") == [("a", "", "1"), ("h", "😀", "8 \ufffd")]
    with open_snapshot(store) as connection:
        funnel = connection.execute(
            "SELECT reason, sum(count)::INTEGER FROM funnel WHERE run_id = 'got' AND "
            "subject = 'instructions' AND outcome IN ('rejected', 'without_instances') "
            "GROUP BY reason"
        ).fetchall()
    assert dict(funnel) == {
        "not_json": 1, "not_utf8": 1, "missing_field": 1, "wrong_type": 2, "null_byte": 1,
        "all_instances_rejected": 1,
    }  # fmt: skip
    shown = " ".join(evoloom("runs", "show", "got", "--store", str(store)).out.split())
    for text in ("rows 9", "bad: wrong_type 2", "without instances: all_instances_rejected 1",
                 "rejected: empty_output 1", "accepted 2"):  # fmt: skip
        assert text in shown


def test_strict_refuses_and_leaves_nothing_behind(evoloom, tmp_path, store):
    (tmp_path / "good.jsonl").write_bytes(json_lines(FLAT))
    (tmp_path / "bad.jsonl").write_bytes(json_lines(FLAT) + b"broken\n")
    ended = evoloom("import", "good.jsonl", "bad.jsonl", "--strict", "--store", str(store))
    assert ended.code == 2
    assert "bad.jsonl: 1 bad line(s), and --strict refuses them" in ended.err
    assert "line 4: not_json: " in ended.err
    assert list(runs_directory(store).iterdir()) == []
    assert not store.exists()
    assert evoloom("import", "good.jsonl", "bad.jsonl", "--store", str(store)).code == 0
    assert len(list_run_ids(runs_directory(store))) == 2


REFUSED: list[tuple[str, bytes, tuple[str, ...], str]] = [
    ("empty.jsonl", b"\n \n", (), "empty.jsonl: holds no row"),
    ("empty.json", b"[]", (), "holds no row"),
    ("x.jsonl", b"nonsense\n", (), "its first rows cannot be read: 1: not valid JSON"),
    ("x.jsonl", b'{"prompt": "a", "completion": "b"}', (),
     "the fields of its first rows are prompt, completion; --map instruction=prompt "
     "--map output=completion would read them"),
    ("x.jsonl", b'{"a": 1}', (), "sharegpt: conversations"),
    ("x.jsonl", b'{"instruction": "a", "output": 1}', (), "none of its 1 line(s) can be read as evol"),
    ("x.jsonl", b'{"instruction": "a", "output": " "}', (), "trained on (1 empty_output)"),
    ("x.json", b'[{"instruction": "a", "output": "b"}, {"instruction": "c"', (),
     "row 2 is not valid JSON: Expecting ',' delimiter. What follows cannot be read, so nothing"),
    ("x.csv", b"question,text\na,b\n", ("--format", "csv"), "no column for 'output'; there are "
     "question, text. Say which with --map output=COLUMN"),
    ("x.csv", b"question,text\na,b\n", ("--map", "output=txt"), "there is no column 'txt'"),
    ("x.jsonl", b"{}", ("--map", "instruction"), "--map instruction: FIELD=COLUMN is expected"),
    ("x.jsonl", b"{}", ("--map", "question=instruction"), "'question' is no field of any format"),
    ("x.jsonl", b"{}", ("--map", "input=a", "--map", "input=b"), "field 'input' is mapped twice"),
    ("x.jsonl", b"{}", ("--format", "alpacca"), "format 'alpacca' is not known; known: self-in"),
    ("x.jsonl", b"{}", ("--format", "parquet"), "is no Parquet file"),
    ("x.jsonl", b'{"instruction": "a", "output": "b"}', ("--map", "input=s", "--format",
     "sharegpt"), "'input' is no field of format sharegpt"),
    ("x.jsonl", b'{"messages": []}', ("--map", "input=s"), "messages, which x.jsonl was found to"),
    ("x.jsonl", '{"instruction": "a"}'.encode("utf-16"), (), "is UTF-16 text"),
    ("x.jsonl.gz", gzip.compress(json_lines(FLAT) * 3000)[:-20], (), "Compressed file ended"),
    ("x.jsonl", b"\x1f\x8bnot gzip at all, whatever it says", (), "Nothing was imported"),
    ("x.parquet", as_parquet(FLAT)[:-9], (), "not a Parquet file that can be read"),
    ("x.jsonl", b"{}", ("--name", "../x"), "run id '../x'"),
    ("x.jsonl", b"{}", ("--name", "notes@2026-11-21.1"), "'@' stands in the ids of dataset versions"),
    ("x.jsonl", json_lines(FLAT), ("--format", "alpaca", "--map", "input=contxt"),
     "x.jsonl: --map input=contxt: no line has a field 'contxt'; the first have instruction, input, "
     "output. Nothing was imported"),
    ("x.json", json_array(FLAT), ("--format", "alpaca", "--map", "output=answr", "--map", "input=a"),
     "x.json: --map output=answr, --map input=a: no row has a field 'a' or 'answr'; the first have"),
    ("x.jsonl", json_lines(TALKS), ("--map", "system=sys"), "--map system=sys: no line has a field"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "flags", "says"), REFUSED)
def test_what_cannot_be_imported_is_refused_in_words(
    evoloom, tmp_path, store, name, data, flags, says
):
    (tmp_path / name).write_bytes(data)
    ended = evoloom("import", name, *flags, "--store", str(store))
    assert ended.code == 2
    assert says in ended.err
    assert "Traceback" not in ended.err
    assert list_run_ids(runs_directory(store)) == []
    assert not runs_directory(store).exists() or not list(runs_directory(store).iterdir())


def test_names_of_runs(evoloom, tmp_path, store):
    (tmp_path / "my data (1).jsonl.gz").write_bytes(gzip.compress(json_lines(FLAT)))
    path = "my data (1).jsonl.gz"
    assert evoloom("import", path, "--store", str(store)).code == 0
    (run_id,) = list_run_ids(runs_directory(store))
    assert run_id.startswith("import-my-data-1-")
    both = evoloom("import", path, path, "--name", "x", "--store", str(store))
    assert both.code == 2
    assert "2 files become 2 runs" in both.err
    taken = evoloom("import", path, "--name", run_id, "--store", str(store))
    assert (taken.code, f"there is a run '{run_id}' already" in taken.err) == (2, True)
    assert evoloom("import", "nowhere.jsonl", "--store", str(store)).code == 2
    assert evoloom("import", ".", "--store", str(store)).code == 2


def test_columns_can_be_named_otherwise_in_any_container(evoloom, tmp_path, store):
    rows = [{"q": row["instruction"], "a": row["output"], "input": row["input"], "id": n}
            for n, row in enumerate(FLAT)]  # fmt: skip
    flags = ("--map", "instruction=q", "--map", "output=a", "--store", str(store))
    for name, data in (("x.csv", as_csv(rows)), ("x.parquet", as_parquet(rows)),
                       ("x.jsonl", json_lines(rows))):  # fmt: skip
        (tmp_path / name).write_bytes(data)
        run_id = name.replace(".", "-")
        ended = evoloom("import", name, "--name", run_id, *flags)
        assert ended.code == 0
        assert triples(store, run_id) == PAIRS
        assert "columns: instruction = q, output = a" in ended.out
        assert "fields left out: id" in ended.out


def test_a_mapped_field_may_be_missing_from_most_rows_of_json(evoloom, tmp_path, store):
    rows: Rows = [{"instruction": f"Add {n}.", "output": str(n)} for n in range(60)]
    rows[-1]["context"] = "1 2"
    (tmp_path / "x.jsonl").write_bytes(json_lines(rows))
    flags = ("--format", "alpaca", "--map", "input=context", "--store", str(store))
    ended = evoloom("import", "x.jsonl", "--name", "sparse", *flags)
    assert ended.code == 0, ended.err
    assert [given for _, given, _ in triples(store, "sparse") if given] == ["1 2"]


def test_an_id_made_of_a_file_name_is_none_of_a_dataset_version(evoloom, tmp_path, store):
    (tmp_path / "notes@2026-11-21.1.jsonl").write_bytes(json_lines(FLAT))
    assert evoloom("import", "notes@2026-11-21.1.jsonl", "--store", str(store)).code == 0
    (run_id,) = list_run_ids(runs_directory(store))
    assert run_id.startswith("import-notes-2026-11-21-")


def test_an_import_is_pending_while_the_live_file_is_held(evoloom, tmp_path, store):
    (tmp_path / "data.jsonl").write_bytes(json_lines(FLAT))
    assert evoloom("import", "data.jsonl", "--name", "first", "--store", str(store)).code == 0
    code = ("import sys, duckdb; connection = duckdb.connect(sys.argv[1], read_only=True); "
            "print(flush=True); sys.stdin.read()")  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", code, str(store)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as hog:  # fmt: skip
        assert hog.stdout is not None
        hog.stdout.readline()
        ended = evoloom("import", "data.jsonl", "--name", "second", "--store", str(store))
        assert (ended.code, "ingest pending" in ended.err) == (0, True)
        hog.communicate(b"")
    assert evoloom("import", "data.jsonl", "--name", "third", "--store", str(store)).code == 0
    assert triples(store, "second") == PAIRS


PEAKS = """
import re, sys
from pathlib import Path
from flows import import_source, importing
from store.new_run import NewRun

options = import_source.ImportOptions()
for number, name in enumerate(sys.argv[2:]):
    with NewRun(Path(sys.argv[1]), f"r{number}") as run:
        importing._import_file(Path(name), run, options, lambda file, rows: None)
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
    print(peak, flush=True)
"""
CONTAINERS: dict[str, Callable[[Rows], bytes]] = {
    "jsonl": json_lines, "json": json_array, "csv": as_csv, "parquet": as_parquet
}  # fmt: skip


def peaks_of(store: Path, paths: list[Path]) -> list[int]:
    """The most memory (KiB) of a process that reads and writes these files, after each."""
    done = subprocess.run([sys.executable, "-c", PEAKS, str(store), *map(str, paths)], cwd=ROOT,
                          env=environment(), capture_output=True, text=True, check=True)  # fmt: skip
    return [int(line) for line in done.stdout.split()]


def test_memory_does_not_grow_with_the_file(tmp_path, store):
    draw = random.Random(1)
    paths = []
    for size in (3_000, 9_000):
        rows = [{"instruction": draw.randbytes(1000).hex(), "input": "", "output": f"{n} " * 400}
                for n in range(size)]  # fmt: skip
        for ending, encode in CONTAINERS.items():
            paths.append(tmp_path / f"{size}.{ending}")
            paths[-1].write_bytes(encode(rows))
    peaks = peaks_of(store, paths)
    assert len(peaks) == 8
    # Each file grew by 18 MB.
    growth = [peak - peaks[3] for peak in peaks[4:]]
    assert growth[-1] < 8_000, growth


@pytest.mark.verify_store
def test_four_hundred_thousand_rows_take_the_memory_of_a_hundred_thousand(tmp_path, store):
    paths = []
    for size in (100_000, 400_000):
        paths.append(tmp_path / f"{size}.jsonl")
        with paths[-1].open("w") as file:
            for n in range(size):
                row = {"instruction": f"Task {n}: " + "word " * 20, "input": "", "output": "x" * 80}
                file.write(json.dumps(row) + "\n")
    small, large = peaks_of(store, paths)
    # The file grew by 70 MB; what has been seen fills its cache of 32 MiB and then goes to disk.
    assert large - small < 40_000


def test_real_data_has_the_statistics_that_plain_python_counts(evoloom, tmp_path, store, checkout):
    folder = checkout.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared")
    path = folder / "self_instruct" / "gpt3_generated_instances_5k.jsonl.gz"
    assert evoloom("import", str(path), "--name", "gpt3", "--store", str(store)).code == 0
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    expected = compute_statistics(
        DatasetRow(row["instruction"], row["input"], row["output"]) for row in rows
    )
    with open_snapshot(store) as connection:
        texts = connection.execute(
            "SELECT count(*), avg(words), count(*) - count(is_classification) FROM instructions "
            "WHERE state = 'accepted'"
        ).fetchone()
        pairs = connection.execute(
            "SELECT count(*), count(*) FILTER (input_words = 0), "
            "avg(input_words) FILTER (input_words > 0), avg(output_words) FROM instances "
            "WHERE state = 'accepted'"
        ).fetchone()
    assert texts == (
        expected.instructions, pytest.approx(expected.mean_instruction_words), expected.unknown
    )  # fmt: skip
    assert pairs == (
        expected.instances, expected.empty_inputs, pytest.approx(expected.mean_input_words),
        pytest.approx(expected.mean_output_words),
    )  # fmt: skip


def test_nothing_of_an_interrupted_import_looks_like_a_run(tmp_path, store):
    (tmp_path / "big.jsonl").write_bytes(json_lines(FLAT) * 200_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "import", str(tmp_path / "big.jsonl"), "--store",
         str(store)], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None:
        if any(runs_directory(store).glob(".*.tmp/spool")):
            process.kill()
            break
        time.sleep(0.02)
    process.communicate()
    assert list_run_ids(runs_directory(store)) == []
    (tmp_path / "data.jsonl").write_bytes(json_lines(FLAT))
    again = subprocess.run(
        [sys.executable, "-m", "flows.cli", "import", "data.jsonl", "--store", str(store)],
        cwd=tmp_path, env=environment(), check=True, capture_output=True,
    )  # fmt: skip
    assert b"instructions" in again.stdout
    with duckdb.connect(store, read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM instances").fetchall() == [(3,)]
