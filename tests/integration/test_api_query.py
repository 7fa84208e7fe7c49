"""SQL over REST: what it answers, and that nothing gets out of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.publishing import publish_store
from tests.support.api import ServiceProcess, serving, settings
from tests.support.run_directories import SyntheticRun, write_run
from tests.support.stores import dump

LIMITS = settings(api__query_timeout_s=1, api__query_memory_mb=128, api__query_max_rows=50,
                  api__query_max_bytes=100_000)  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    store = tmp_path_factory.mktemp("query") / "evoloom.duckdb"
    write_run(store, SyntheticRun("night"))
    publish_store(store)
    env = {"EVOLOOM_TEACHER__API_KEY": "sk-not-for-anybody"}
    with serving(store, *LIMITS, env=env) as service:
        yield service


def test_what_a_query_answers(service: ServiceProcess) -> None:
    with service.client("query") as client:
        found = client.post("/query", json={"sql": "SELECT run_id, accepted FROM runs"}).json()
        assert found["columns"] == [{"name": "run_id", "type": "VARCHAR"},
                                    {"name": "accepted", "type": "BIGINT"}]  # fmt: skip
        assert found["rows"] == [["night", 20]] and found["truncated"] is False
        odd = ("SELECT 'nan'::DOUBLE, 1.50::DECIMAL(4,2), DATE '2026-11-26', [1, NULL], {'a': 'x'}, "
               "'ab'::BLOB, TIMESTAMP '2026-11-26 22:00:00', sum(i) FROM range(3) t(i)")  # fmt: skip
        assert client.post("/query", json={"sql": odd}).json()["rows"] == [
            ["nan", 1.5, "2026-11-26", [1, None], {"a": "x"}, "6162", "2026-11-26T22:00:00", 3]
        ]
        many = client.post("/query", json={"sql": "FROM range(1000)"}).json()
        assert len(many["rows"]) == 50 and many["truncated"]
        few = client.post("/query", json={"sql": "FROM range(1000)", "max_rows": 3}).json()
        assert few["rows"] == [[0], [1], [2]]
        for sql in (
            "SHOW TABLES",
            "DESCRIBE runs",
            "EXPLAIN SELECT 1",
            "SUMMARIZE runs",
            "VALUES (1)",
        ):
            assert client.post("/query", json={"sql": sql}).status_code == 200, sql
        wrong = client.post("/query", json={"sql": "SELECT nothing FROM runs"})
        assert (wrong.status_code, wrong.json()["code"]) == (422, "query_invalid")
        assert wrong.json()["errors"][0]["field"] == "sql"


ESCAPES = """
COPY runs TO '{out}'
COPY (SELECT 1) TO '{out}' (FORMAT parquet)
EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}'
EXPORT DATABASE '{out}'
IMPORT DATABASE '{out}'
ATTACH '{out}'
ATTACH ':memory:' AS m
DETACH evoloom
INSTALL httpfs
LOAD httpfs
SET enable_external_access = true
SET GLOBAL enable_external_access = true
SET lock_configuration = false
RESET lock_configuration
SET memory_limit = '64GB'
PRAGMA enable_external_access
PRAGMA database_list
PRAGMA memory_limit='64GB'
CALL pragma_version()
CREATE TABLE x (i INTEGER)
CREATE TEMP TABLE x AS SELECT 1
CREATE MACRO m() AS 1
CREATE VIEW v AS SELECT 1
CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')
INSERT INTO runs SELECT * FROM runs
UPDATE runs SET state = 'failed'
DELETE FROM runs
EXPLAIN ANALYZE DELETE FROM runs
TRUNCATE runs
DROP TABLE runs
ALTER TABLE runs ADD COLUMN x INTEGER
COMMENT ON TABLE runs IS 'mine'
VACUUM
CHECKPOINT
BEGIN
USE memory
PREPARE p AS SELECT 1
EXECUTE p
SET VARIABLE x = 1
SELECT 1; DROP TABLE runs
SELECT 1; SELECT 2
SELECT * FROM read_text('/etc/passwd')
SELECT * FROM read_blob('{service}')
SELECT * FROM read_csv('/etc/passwd')
SELECT * FROM sniff_csv('/etc/passwd')
SELECT * FROM read_json('{manifest}')
SELECT * FROM read_ndjson_objects('{manifest}')
SELECT * FROM read_parquet('{out}')
SELECT * FROM parquet_metadata('{out}')
SELECT * FROM read_duckdb('{store}')
SELECT * FROM read_duckdb('{store}', table_name='runs')
SELECT * FROM glob('/etc/*')
FROM '/etc/passwd'
FROM '{manifest}'
FROM 'https://example.org/x.parquet'
SELECT * FROM sqlite_scan('{service}', 'keys')
SELECT * FROM postgres_scan('host=localhost', 'a', 'b')
SELECT * FROM duckdb_secrets()
SELECT * FROM which_secret('s3://x', 's3')
SELECT getenv('EVOLOOM_TEACHER__API_KEY')
SELECT * FROM query('COPY (SELECT 1) TO ''{out}''')
SELECT * FROM query('FROM read_text(''/etc/passwd'')')
SELECT * FROM query_table('/etc/passwd')
SELECT * FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''/etc/passwd'')'))
SELECT * FROM enable_logging(storage_path='{out}')
SELECT * FROM force_checkpoint()
SELECT * FROM create_external_resource('a', 'b')
SELECT * FROM python_map_function()
SELECT * FROM order
SELECT * FROM connection
SELECT * FROM pandas_scan(1)
SELECT * FROM arrow_scan(1, 2, 3)
WITH RECURSIVE t AS (SELECT 1 AS i UNION ALL SELECT i FROM t) SELECT count(*) FROM t
SELECT count(*) FROM range(100000000000) a, range(1000) b
SELECT repeat('x', 100000000)
SELECT list(i) FROM range(1000000000) t(i)
SELECT string_agg(i::VARCHAR || 'x', '') FROM range(1000000000) t(i)
"""


def test_nothing_gets_out_of_a_query(service: ServiceProcess, tmp_path: Path) -> None:
    store = service.store
    before = dump(store.with_name("evoloom.snapshot.duckdb").resolve())
    names = {
        "out": tmp_path / "out", "store": store, "service": f"{store}.service.sqlite",
        "manifest": f"{store}.runs/night/manifest.json",
    }  # fmt: skip
    escapes = [line.format(**names) for line in ESCAPES.strip().splitlines()]
    assert len(escapes) >= 40
    with service.client("query") as client:
        for sql in [*escapes, f"SELECT {'(' * 8000}1{')' * 8000}"]:
            answer = client.post("/query", json={"sql": sql})
            assert answer.status_code == 422, (sql, answer.text[:300])
            assert answer.json()["code"].startswith("query_"), sql
        settings = client.post("/query", json={"sql": "SELECT name, value FROM duckdb_settings()"})
        assert "sk-not-for-anybody" not in settings.text
        assert client.post("/query", json={"sql": "SELECT 1"}).json()["rows"] == [[1]]
    assert not list(tmp_path.iterdir())
    assert dump(store.with_name("evoloom.snapshot.duckdb").resolve()) == before


def test_queries_beyond_those_that_may_be_at_work_are_told_to_wait(
    service: ServiceProcess,
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    slow = "SELECT count(*) FROM range(100000000000) a, range(1000) b"
    with service.client("query") as client, ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: client.post("/query", json={"sql": slow}), range(6)))
        codes = sorted(answer.json()["code"] for answer in answers)
        assert codes.count("query_timeout") == 2 and codes.count("query_busy") == 4
        assert all(
            "retry-after" in answer.headers for answer in answers if answer.status_code == 503
        )
