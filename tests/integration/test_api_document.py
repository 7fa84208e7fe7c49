"""The OpenAPI document: true to the service (schemathesis), with an example for every operation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from flows.publishing import publish_store
from tests.support.api import ServiceProcess, serving, settings, task
from tests.support.run_directories import SyntheticRun, write_run
from tests.support.teachers import ROOT

GENERATED = 200
GENERATED_FULLY = 2_000
# What a schema cannot say: that SQL or JSON Lines are well-formed, which settings go together, and
# that an idempotency key is sent with one request only.
CONFIGURATION = """
[[operations]]
include-operation-id = [
  "submitSeedTasks", "createSeedSet", "createDataset", "startRun", "resumeRun", "query",
  "getVerbNouns"
]
checks.positive_data_acceptance.expected-statuses = [
  "2xx", "3xx", "400", "401", "403", "404", "409", "422", "429", "5xx"
]
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service of a store with a run, seed tasks and a set, whose teacher nobody answers for."""
    store = tmp_path_factory.mktemp("document") / "evoloom.duckdb"
    write_run(store, SyntheticRun("poems-night"))
    publish_store(store)
    free = settings(
        teacher__base_url="http://127.0.0.1:9/v1", api__rate_per_s=100_000, api__rate_burst=100_000,
        api__query_timeout_s=2, api__query_memory_mb=128, teacher__outage_limit_s=1,
    )  # fmt: skip
    with serving(store, *free) as service, service.client() as client:
        client.post("/seed-tasks", json=[task(n) for n in range(10)]).raise_for_status()
        client.post("/seed-sets", json={"name": "poems", "filter": {}}).raise_for_status()
        client.post(
            "/datasets", json={"name": "poems", "inputs": ["poems-night"]}
        ).raise_for_status()
        yield service


def test_every_operation_has_examples_that_its_schema_allows(service: ServiceProcess) -> None:
    with service.client() as client:
        document = client.get("/openapi.json").json()
    seen = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            seen += 1
            where = f"{method} {path}"
            assert operation["description"], where
            for content in operation.get("requestBody", {}).get("content", {}).values():
                check(document, content["example"], content["schema"], f"{where}: request")
            shown = 0
            for status, answer in operation["responses"].items():
                for content in answer.get("content", {}).values():
                    if "example" in content and content["schema"].get("format") != "binary":
                        check(document, content["example"], content["schema"], f"{where} {status}")
                    shown += "example" in content and status.startswith("2")
            assert shown, where
    assert seen >= 28


def check(document: dict[str, Any], value: Any, schema: Any, where: str) -> None:
    whole = {**schema, "components": document["components"]}
    errors = list(jsonschema.Draft202012Validator(whole).iter_errors(value))
    assert not errors, f"{where}: {errors[0].message}"


def test_generated_requests_meet_no_fault(service: ServiceProcess) -> None:
    assert_no_fault(service, GENERATED)


@pytest.mark.verify_api
def test_many_generated_requests_meet_no_fault(service: ServiceProcess) -> None:
    assert_no_fault(service, GENERATED_FULLY)


def assert_no_fault(service: ServiceProcess, wanted: int) -> None:
    """Every check of schemathesis on at least so many generated requests."""
    (service.store.parent / "schemathesis.toml").write_text(CONFIGURATION)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("schemathesis")), "run",
         f"{service.url}/v1/openapi.json", "--header", f"Authorization: Bearer {service.key()}",
         "--checks", "all", "--phases", "examples,fuzzing", "--max-examples", str(wanted // 20),
         "--seed", "1", "--continue-on-failure", "--request-timeout", "300", "--no-color",
         "--exclude-operation-id", "followRun"],
        cwd=service.store.parent,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks",
             "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-8000:]
    generated = int(re.findall(r"(\d+) generated", output)[-1])
    assert generated >= wanted, output[-3000:]
    assert "Traceback" not in service.log.read_text()
