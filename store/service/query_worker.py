"""The process that executes one SQL query of the REST service, and nothing else, and ends.

It has no environment, may write no file, and DuckDB is locked down before the query is seen: nothing
but the snapshot can be read, nothing can be loaded, attached or set. Whatever goes wrong in here, the
service goes on.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import threading
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import duckdb

_ALLOWED = frozenset({"SELECT", "EXPLAIN"})
_ROWS_AT_ONCE = 200
# Beside what DuckDB may take: Python, the libraries, and the rows that are being written as JSON.
_OTHER_MEMORY = 3 * 2**30
_OPEN_FILES = 64


class RefusedError(Exception):
    """Raised for a query that is not executed, or whose result is too large."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def main() -> None:
    """Execute the order on standard input; the answer goes to standard output. Both are JSON."""
    order = json.loads(sys.stdin.buffer.readline())
    try:
        answer = execute(order)
    except RefusedError as exc:
        answer = {"error": {"code": exc.code, "message": str(exc)}}
    except MemoryError:
        answer = {"error": {"code": "query_memory", "message": "the result does not fit memory"}}
    text = json.dumps(answer, ensure_ascii=False, allow_nan=False)
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()
    os._exit(0)  # DuckDB's threads may still be at work


def execute(order: dict[str, Any]) -> dict[str, Any]:
    """Execute an order: `path`, `sql`, `timeout_s`, `max_rows`, `max_bytes`, `memory_mb`.

    Raises:
        RefusedError: the query is no single SELECT, DuckDB refuses it, or it takes too much.
    """
    _limit(order["memory_mb"], order["timeout_s"])
    connection = open_locked(order["path"], order["memory_mb"])
    late = threading.Event()

    def stop() -> None:
        late.set()
        connection.interrupt()

    clock = threading.Timer(order["timeout_s"], stop)
    clock.daemon = True
    clock.start()
    try:
        _check(connection, order["sql"])
        cursor = connection.execute(order["sql"])
        columns = [{"name": item[0], "type": str(item[1])} for item in cursor.description or ()]
        rows, is_cut = _rows(cursor, order["max_rows"], order["max_bytes"])
    except (duckdb.Error, RuntimeError) as exc:
        if late.is_set():  # an interruption comes as the one or as the other
            raise RefusedError(
                "query_timeout", f"took longer than {order['timeout_s']:g} s and was stopped"
            ) from exc
        raise RefusedError(_code(exc), str(exc).strip()) from exc
    return {"columns": columns, "rows": rows, "truncated": is_cut}


def open_locked(path: str, memory_mb: int) -> duckdb.DuckDBPyConnection:
    """A connection that can read the database at `path` and do nothing else."""
    connection = duckdb.connect(
        path,
        read_only=True,
        config={
            "enable_external_access": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "allow_unsigned_extensions": "false",
            "memory_limit": f"{memory_mb}MB",
            "max_temp_directory_size": "0B",
            "threads": "1",
            "python_enable_replacements": "false",
        },
    )
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute("SET lock_configuration = true")
    return connection


def _code(exc: Exception) -> str:
    if isinstance(exc, duckdb.OutOfMemoryException):
        return "query_memory"
    if isinstance(exc, duckdb.PermissionException) or "configuration has been locked" in str(exc):
        return "query_refused"
    return "query_invalid"


def _limit(memory_mb: int, timeout_s: float) -> None:
    memory = memory_mb * 2**20 + _OTHER_MEMORY
    seconds = math.ceil(timeout_s) + 5
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        resource.setrlimit(kind, (most, most))
    os.nice(5)  # what others read comes first


def _check(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise RefusedError(
            "query_refused", f"one statement is expected, not {len(statements) or 'none'}"
        )
    kind = statements[0].type.name
    if kind not in _ALLOWED:
        raise RefusedError(
            "query_refused",
            f"{kind} is not allowed here: SELECT, WITH, FROM, VALUES, SHOW, DESCRIBE, SUMMARIZE and "
            "EXPLAIN are",
        )


def _rows(
    cursor: duckdb.DuckDBPyConnection, max_rows: int, max_bytes: int
) -> tuple[list[list[Any]], bool]:
    rows: list[list[Any]] = []
    size = 0
    while group := cursor.fetchmany(_ROWS_AT_ONCE):
        for row in group:
            if len(rows) == max_rows:
                return rows, True
            values = [to_json(value) for value in row]
            size += len(json.dumps(values, ensure_ascii=False).encode("utf-8", "replace")) + 1
            if size > max_bytes:
                if not rows:
                    raise RefusedError(
                        "query_too_large", f"the first row alone has more than {max_bytes} bytes"
                    )
                return rows, True
            rows.append(values)
    return rows, False


def to_json(value: Any) -> Any:
    """A value of DuckDB as JSON can hold it: times in ISO 8601, bytes in hex, NaN as a text."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Decimal):
        # A number where a double can hold it: sums of BIGINT are decimals in DuckDB's eyes.
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, dict):
        return {str(to_json(key)): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return str(value)


if __name__ == "__main__":
    main()
