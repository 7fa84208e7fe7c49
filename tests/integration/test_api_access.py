"""Who gets in: keys, scopes, revocation, addresses; what is refused is logged without the secret."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from flows.publishing import publish_store
from store.service.database import ServiceDatabase
from store.service.keys import list_keys, revoke_key
from tests.support.api import ServiceProcess, serving, settings, task
from tests.support.run_directories import SyntheticRun, write_run
from tests.support.runs import evoloom


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    store = tmp_path_factory.mktemp("access") / "evoloom.duckdb"
    write_run(store, SyntheticRun("night"))
    publish_store(store)
    with serving(store, *settings(api__rate_per_s=1000, api__rate_burst=2000)) as service:
        yield service


READ = ["/seed-tasks", "/seed-sets", "/runs", "/runs/night", "/runs/night/export", "/datasets",
        "/instructions", "/statistics/verb-noun?run=night", "/ready", "/metrics",
        "/openapi.json", "/runs/night/events"]  # fmt: skip
SUBMIT = ["/seed-tasks", "/seed-sets", "/runs", "/runs/night/cancel", "/runs/night/resume",
          "/datasets", "/seed-tasks/x/retract"]  # fmt: skip


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def test_every_route_but_health_needs_a_key(service: ServiceProcess) -> None:
    with service.anonymous() as client:
        assert client.get("/health").json()["status"] == "alive"
        for path in READ:
            refused = client.get(path)
            assert code(refused) == (401, "key_missing"), path
            assert refused.headers["www-authenticate"].startswith("Bearer")
        for path in [*SUBMIT, "/query"]:
            assert code(client.post(path, json={})) == (401, "key_missing"), path
        for path in ("/ready", "/metrics"):
            assert httpx.get(f"{service.url}{path}").status_code == 401


def test_a_key_does_what_its_scopes_say(service: ServiceProcess) -> None:
    with service.client("read") as reader:
        for path in READ:
            assert reader.get(path).status_code == 200, path
        for path in SUBMIT:
            assert code(reader.post(path, json={})) == (403, "scope_missing"), path
        assert code(reader.post("/query", json={"sql": "SELECT 1"})) == (403, "scope_missing")
    with service.client("query") as querier:
        assert querier.post("/query", json={"sql": "SELECT 1"}).json()["rows"] == [[1]]
        assert code(querier.get("/runs")) == (403, "scope_missing")
    with service.client("submit") as submitter:
        assert code(submitter.get("/runs")) == (403, "scope_missing")
        assert submitter.post("/seed-tasks", json=task(1)).status_code == 201
    with service.client("submit") as other:
        assert code(other.post("/seed-tasks/task_1/retract")) == (403, "not_yours")
    with service.client("admin") as admin:
        assert admin.post("/seed-tasks/task_1/retract").json()["retracted_at"]
        assert admin.get("/seed-tasks/task_1").json()["retracted_at"]


def test_wrong_and_revoked_keys_are_refused_and_no_secret_is_logged_or_stored(
    service: ServiceProcess,
) -> None:
    key = service.key("read")
    _, key_id, secret = key.split("_", 2)
    with service.client(key=key) as client:
        assert client.get("/runs").status_code == 200
        with ServiceDatabase(service.store) as database:
            revoke_key(database, key_id)
        assert code(client.get("/runs")) == (401, "key_revoked")
    wrong = [
        f"evk_{key_id}_{'A' * 43}",
        f"evk_00000000_{secret}",
        "evk_",
        secret,
        key[:-1],
        key + "x",
    ]
    for text in wrong:
        with service.client(key=text) as client:
            assert code(client.get("/runs")) == (401, "key_unknown"), text
    with service.client("read") as client:
        assert client.get(f"/runs/{key}").status_code in (404, 422)
    log = service.log.read_text()
    assert secret not in log
    lines = [line for line in service.logged() if line.get("refused") == "key_revoked"]
    assert lines[-1]["status"] == 401 and lines[-1]["path"] == "/v1/runs"
    files = [path for path in service.store.parent.glob("*service*") if path.is_file()]
    assert files and not any(secret.encode() in path.read_bytes() for path in files)


def test_the_command_line_makes_lists_and_revokes_keys(tmp_path: Path) -> None:
    store = tmp_path / "evoloom.duckdb"
    made = evoloom("keys", "create", "--scope", "submit,read", "--name", "notes", "--store", store)
    text = made.stdout.strip()
    assert made.returncode == 0 and text.startswith("evk_")
    key_id = text.split("_")[1]
    listed = json.loads(evoloom("keys", "list", "--json", "--store", store).stdout)
    assert [(key["key_id"], key["name"], key["scopes"]) for key in listed] == [
        (key_id, "notes", ["submit", "read"])
    ]
    assert text.split("_", 2)[2] not in json.dumps(listed)
    assert evoloom("keys", "revoke", key_id, "--store", store).returncode == 0
    with ServiceDatabase(store) as database:
        assert list_keys(database)[0].revoked_at is not None
    unknown = evoloom("keys", "revoke", "nothing", "--store", store)
    assert unknown.returncode == 2 and "keys list" in unknown.stderr
    scope = evoloom("keys", "create", "--scope", "write", "--store", store)
    assert scope.returncode == 2 and "submit, read, query, admin" in scope.stderr


def test_the_admin_key_of_a_file_opens_everything_until_another_takes_its_place(
    tmp_path: Path, checkout: Path
) -> None:
    store = tmp_path / "evoloom.duckdb"
    file = tmp_path / "secrets" / "api_admin_key"
    env = {"EVOLOOM_API__ADMIN_KEY_FILE": str(file)}
    texts = []
    for starts in (2, 1):  # a second start finds it
        file.unlink(missing_ok=True)
        make = ["sh", str(checkout / "scripts" / "make-secrets.sh"), str(file.parent)]
        subprocess.run(make, check=True)
        texts.append(file.read_text().strip())
        for _ in range(starts):
            # No loopback: the key is there before the address is checked.
            with serving(store, "--host", "0.0.0.0", env=env) as service:
                answers = []
                for text in texts:
                    with service.client(key=text) as client:
                        answers.append(client.get("/runs").status_code)
                        answers.append(client.post("/query", json={"sql": "SELECT 1"}).status_code)
                assert answers == [401, 401] * (len(texts) - 1) + [200, 200]
                assert texts[-1] not in service.log.read_text()
    file.chmod(0o600)
    file.write_text(texts[0])
    other = texts[1][:-1] + ("B" if texts[1].endswith("A") else "A")
    for wrong, part in ((texts[0], "was revoked"), (other, "another key has its id"),
                        ("evk_short", "evk_ID_SECRET")):  # fmt: skip
        file.write_text(wrong)
        done = evoloom("serve", "--port", "0", "--store", store, env=env)
        assert (done.returncode, part in done.stderr) == (2, True), done.stderr
        assert wrong not in done.stderr and "api.admin_key" in done.stderr


def test_it_does_not_listen_where_everybody_could_do_everything(tmp_path: Path) -> None:
    store = tmp_path / "evoloom.duckdb"
    address = socket.gethostbyname(socket.gethostname())
    for host in {"0.0.0.0", address} - {"127.0.0.1"}:
        without = evoloom("serve", "--host", host, "--port", "0", "--store", store)
        assert without.returncode == 2 and "there is no key" in without.stderr
        off = evoloom(
            "serve", "--host", host, "--port", "0", "--store", store, "--set", "api.auth=off"
        )
        assert off.returncode == 2 and "no loopback address" in off.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_closes_what_it_has_opened_when_it_is_stopped(
    tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    store = tmp_path / "evoloom.duckdb"
    with serving(store, env={"TMPDIR": str(folder)}) as service:
        with service.client() as client:
            client.get("/runs").raise_for_status()
        assert list(folder.iterdir())
        assert service.stop(number) == 0
        assert "Traceback" not in service.log.read_text()
    assert not list(folder.iterdir())
    assert not list(tmp_path.glob("*.sqlite-*"))


def test_without_keys_it_answers_to_loopback_names_only(tmp_path: Path) -> None:
    store = tmp_path / "evoloom.duckdb"
    with serving(store, *settings(api__auth="off")) as service, service.anonymous() as client:
        assert client.get("/runs").status_code == 200
        assert client.post("/seed-tasks", json=task(1)).status_code == 201
        assert client.get("/seed-tasks").json()["items"][0]["submitted_by"] == "local"
        rebound = client.get("/runs", headers={"Host": "evil.example.org"})
        assert code(rebound) == (421, "not_this_host")
        form = client.post("/seed-tasks", content="{}", headers={"Content-Type": "text/plain"})
        assert code(form) == (415, "content_type")
        address = str(client.base_url).removesuffix("/v1/").removesuffix("/v1")
        for origin in ("https://evil.example.org", "null", "http://127.0.0.1:1"):
            foreign = client.post("/runs/night/resume", headers={"Origin": origin})
            assert code(foreign) == (403, "foreign_origin")
        own = client.post("/runs/night/resume", headers={"Origin": address})
        assert code(own) == (404, "run_not_found")
        second = evoloom("serve", "--port", "0", "--store", store)
        assert second.returncode == 2 and "another `evoloom serve` has it" in second.stderr


@pytest.mark.parametrize(
    "path",
    ["/runs/..%2f..%2fetc%2fpasswd/export", "/runs/../../etc/passwd/export", "/runs/%2e%2e/export",
     "/datasets/..%2fevoloom.duckdb.runs%2fnight/export", "/runs/night%00/export",
     "/runs/.night/export", "/runs/night/export?format=../../etc", "/datasets/night/export",
     "/runs/night%2f..%2fnight/export", "/runs/night/..;/export"],
)  # fmt: skip
def test_no_download_leaves_the_folder_of_runs(service: ServiceProcess, path: str) -> None:
    refused = _raw(service, path, service.key("read"))
    assert 400 <= refused[0] < 500, refused


def _raw(service: ServiceProcess, path: str, key: str, headers: str = "") -> tuple[int, bytes]:
    """A GET as it stands: clients tidy paths."""
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(
            f"GET /v1{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
            f"{headers}Connection: close\r\n\r\n".encode()
        )
        data = b""
        while part := connection.recv(65536):
            data += part
    return int(data.split(b" ", 2)[1]), data


def test_oversized_heads_are_refused(service: ServiceProcess) -> None:
    key = service.key("read")
    status, data = _raw(service, "/runs", key, f"X-Large: {'a' * 20_000}\r\n")
    assert status == 431 and b"head_too_large" in data
    assert _raw(service, f"/runs?kind={'a' * 20_000}", key)[0] == 431
    with suppress(ConnectionResetError, BrokenPipeError):  # not even read to its end, hung up on
        assert _raw(service, "/runs", key, f"X-Large: {'a' * 200_000}\r\n")[0] in (400, 431)
    assert _raw(service, "/runs", key)[0] == 200


def test_who_asks_too_often_waits(tmp_path: Path) -> None:
    store = tmp_path / "evoloom.duckdb"
    with (
        serving(store, *settings(api__rate_per_s=0.01, api__rate_burst=5)) as service,
        service.client("read") as client,
        service.client("read") as other,
    ):
        answers = [client.get("/runs") for _ in range(7)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
        assert code(answers[-1]) == (429, "rate_exceeded")
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert other.get("/runs").status_code == 200


def test_other_origins_are_let_in_where_they_are_named(
    service: ServiceProcess, tmp_path: Path
) -> None:
    origin = {"Origin": "https://notes.example.org"}
    with service.client("read", headers=origin) as client:
        assert "access-control-allow-origin" not in client.get("/runs").headers
    named = settings(api__cors_origins='["https://notes.example.org"]')
    with serving(tmp_path / "evoloom.duckdb", *named) as other:
        with other.client("read", headers=origin) as client:
            allowed = client.get("/runs").headers["access-control-allow-origin"]
            assert allowed == "https://notes.example.org"
        with other.client("read", headers={"Origin": "https://evil.example.org"}) as client:
            assert "access-control-allow-origin" not in client.get("/runs").headers
