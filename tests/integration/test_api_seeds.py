"""Seed tasks and seed sets over REST: what comes in, what is refused and why, what is stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from flows.publishing import publish_store
from pipeline.novelty import NoveltyIndex
from store.rebuild import rebuild
from store.service.database import service_path
from tests.support.api import ServiceProcess, serving, settings, task
from tests.support.stores import dump

FREE = settings(api__rate_per_s=10_000, api__rate_burst=10_000)


@pytest.fixture
def service(store: Path) -> Iterator[ServiceProcess]:
    with serving(store, *FREE) as service:
        yield service


def stored(client: httpx.Client) -> list[str]:
    return [item["id"] for item in client.get("/seed-tasks", params={"limit": 200}).json()["items"]]


def test_one_a_list_and_lines(service: ServiceProcess) -> None:
    with service.client() as client:
        one = client.post("/seed-tasks", json=task(1))
        assert one.status_code == 201 and one.headers["location"] == "/v1/seed-tasks/task_1"
        many = client.post("/seed-tasks", json=[task(2), task(3)])
        assert many.json() == {"stored": 2, "ids": ["task_2", "task_3"], "skipped": []}
        lines = "\n".join(json.dumps(task(n)) for n in (4, 5)) + "\n\n"
        sent = client.post(
            "/seed-tasks", content=lines, headers={"Content-Type": "application/x-ndjson"}
        )
        assert sent.json()["ids"] == ["task_4", "task_5"]
        unnamed = {name: value for name, value in task(6).items() if name != "id"}
        given = client.post("/seed-tasks", json=unnamed).json()["ids"][0]
        assert given.startswith("st_")
        view = client.get("/seed-tasks/task_4").json()
        assert {name: view[name] for name in task(4)} == task(4)
        assert view["submitted_by"] and view["submitted_at"].endswith("Z")


def test_near_duplicates_are_refused_with_the_nearest_and_its_score(
    service: ServiceProcess,
) -> None:
    with service.client() as client:
        client.post("/seed-tasks", json=[task(n) for n in range(20)]).raise_for_status()
        near = task(7)["instruction"].replace(".", "").lower()
        refused = client.post("/seed-tasks", json=[task(30), task(31, instruction=near)])
        problem = refused.json()
        assert (refused.status_code, problem["code"]) == (409, "near_duplicate")
        index = NoveltyIndex()
        index.add([task(n)["instruction"] for n in range(20)])
        best = index.nearest([near], 1)[0][0]
        assert problem["errors"] == [
            {"field": "tasks[1].instruction", "code": "near_duplicate",
             "message": problem["errors"][0]["message"],
             "nearest": {"id": f"task_{best.entry}", "instruction": best.text, "score": best.score}}
        ]  # fmt: skip
        assert best.entry == 7
        assert stored(client) == [f"task_{n}" for n in range(20)]  # not task 30 either

        same = client.post("/seed-tasks", json=task(40, instruction=task(3)["instruction"]))
        assert same.json()["code"] == "duplicate"
        taken = client.post("/seed-tasks", json=task(41, id="task_3"))
        assert taken.json()["code"] == "seed_task_id_taken"
        # Within one request, too; and left out where that is asked for.
        both = [task(50), task(51, instruction=task(50)["instruction"] + "!"), task(52)]
        skipped = client.post("/seed-tasks", json=both, params={"skip_duplicates": True}).json()
        assert skipped["ids"] == ["task_50", "task_52"]
        assert [(one["index"], one["nearest_id"]) for one in skipped["skipped"]] == [(1, "task_50")]

        client.post("/seed-tasks/task_7/retract").raise_for_status()
        assert client.post("/seed-tasks", json=task(60, instruction=near)).status_code == 201


def test_the_pool_outlives_the_service(store: Path) -> None:
    with serving(store) as service, service.client() as client:
        client.post("/seed-tasks", json=[task(n) for n in range(5)]).raise_for_status()
        client.post("/seed-tasks/task_2/retract").raise_for_status()
    with serving(store) as service, service.client() as client:
        again = client.post("/seed-tasks", json=task(9, instruction=task(1)["instruction"] + "?"))
        assert again.json()["errors"][0]["nearest"]["id"] == "task_1"
        back = client.post("/seed-tasks", json=task(9, instruction=task(2)["instruction"]))
        assert back.status_code == 201


def test_lists_are_paged_filtered_and_conditional(service: ServiceProcess) -> None:
    with service.client() as client:
        client.post("/seed-tasks", json=[task(n) for n in range(25)]).raise_for_status()
        ids, cursor = [], None
        while True:
            page = client.get(
                "/seed-tasks", params={"limit": 7, **({"cursor": cursor} if cursor else {})}
            )
            ids += [item["id"] for item in page.json()["items"]]
            if (cursor := page.json()["next_cursor"]) is None:
                break
        assert ids == [f"task_{n}" for n in range(25)]
        kinds = client.get("/seed-tasks", params={"is_classification": True}).json()["items"]
        assert [item["id"] for item in kinds] == [f"task_{n}" for n in range(0, 25, 4)]
        words = task(3)["instruction"].split()[0].upper()
        found = client.get("/seed-tasks", params={"text": words}).json()["items"]
        assert [item["id"] for item in found] == ["task_3"]
        first = client.get("/seed-tasks")
        known = {"If-None-Match": first.headers["etag"]}
        assert client.get("/seed-tasks", headers=known).status_code == 304
        client.post("/seed-tasks", json=task(99)).raise_for_status()
        assert client.get("/seed-tasks", headers=known).status_code == 200
        wrong = client.get("/seed-tasks", params={"cursor": "abc"})
        assert (wrong.status_code, wrong.json()["code"]) == (404, "page_not_found")
        packed = client.get("/seed-tasks", headers={"Accept-Encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"


def test_a_set_is_a_selection_that_never_changes(service: ServiceProcess) -> None:
    with service.client() as client:
        client.post("/seed-tasks", json=[task(n) for n in range(12)]).raise_for_status()
        made = client.post(
            "/seed-sets", json={"name": "some", "seed_task_ids": ["task_3", "task_1"]}
        )
        assert made.status_code == 201 and made.headers["location"] == "/v1/seed-sets/some"
        all_ = client.post(
            "/seed-sets", json={"name": "kinds", "filter": {"is_classification": True}}
        )
        assert all_.json()["size"] == 3
        client.post("/seed-tasks/task_1/retract").raise_for_status()
        view = client.get("/seed-sets/some").json()
        assert (view["size"], view["active"]) == (2, 1)
        members = client.get("/seed-sets/some/seed-tasks").json()["items"]
        assert [item["id"] for item in members] == ["task_3", "task_1"]
        assert client.post("/seed-sets", json={"name": "some", "filter": {}}).status_code == 409
        both = {"name": "both", "seed_task_ids": ["task_3", "task_4"],
                "filter": {"is_classification": True}}  # fmt: skip
        assert client.post("/seed-sets", json=both).json()["size"] == 1
        wrong: list[tuple[Any, int, str]] = [
            ({"name": "x", "seed_task_ids": ["task_1"]}, 409, "seed_task_retracted"),
            ({"name": "x", "seed_task_ids": ["task_3", "nothing"]}, 404, "seed_task_not_found"),
            ({"name": "x", "filter": {"text": "nowhere to be found"}}, 409, "seed_set_empty"),
            ({"name": "../x", "filter": {}}, 422, "invalid_field"),
            ({"filter": {}}, 422, "invalid_field"),
        ]
        for body, status, code in wrong:
            refused = client.post("/seed-sets", json=body)
            assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text


@pytest.mark.parametrize("path", ["/seed-tasks", "/seed-sets"])
def test_a_repeated_post_is_answered_again_and_done_once(
    service: ServiceProcess, path: str
) -> None:
    with service.client() as client:
        client.post("/seed-tasks", json=task(0)).raise_for_status()
        body = task(1) if path == "/seed-tasks" else {"name": "mine", "filter": {}}
        key = {"Idempotency-Key": "k-1"}
        with ThreadPoolExecutor(20) as threads:
            answers = list(
                threads.map(lambda _: client.post(path, json=body, headers=key), range(20))
            )
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.content for answer in answers}) == 1
        other = client.post(path, json={**body, "name": "other"}, headers=key)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    with service.client() as somebody_else:
        again = somebody_else.post(path, json=body, headers=key)
        assert again.status_code == 409  # the key is another's: a request of its own


def test_a_seed_set_is_answered_again_though_its_tasks_are_gone(service: ServiceProcess) -> None:
    with service.client() as client:
        (made,) = client.post("/seed-tasks", json=task(1)).raise_for_status().json()["ids"]
        body, key = {"name": "mine", "seed_task_ids": [made]}, {"Idempotency-Key": "k-2"}
        first = client.post("/seed-sets", json=body, headers=key).raise_for_status()
        client.post(f"/seed-tasks/{made}/retract").raise_for_status()
        again = client.post("/seed-sets", json=body, headers=key)
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["Idempotency-Replayed"] == "true"


JSON = "application/json"
LINES = "application/x-ndjson"
GOOD = json.dumps(task(1))
UPLOADS: dict[str, tuple[bytes, str, int]] = {
    "invalid UTF-8": (
        GOOD.replace("name 1", "\udcff").encode("utf-8", "surrogateescape"),
        JSON,
        400,
    ),
    "invalid UTF-8 in lines": (f"{GOOD}\n\udcff".encode("utf-8", "surrogateescape"), LINES, 400),
    "NUL": (GOOD.replace("name 1", "a\0b").encode(), JSON, 400),
    "escaped NUL": (GOOD.replace("name 1", "a\\u0000b").encode(), JSON, 400),
    "half a surrogate pair": (GOOD.replace("name 1", "\\ud83d").encode(), JSON, 400),
    "deep list": (b"[" * 100_000 + b"]" * 100_000, JSON, 400),
    "deep objects": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, JSON, 400),
    "a name twice": (GOOD.replace('"name"', '"id": "x", "name"').encode(), JSON, 400),
    "NaN": (GOOD.replace('"name 1"', "NaN").encode(), JSON, 400),
    "Infinity": (GOOD.replace('"name 1"', "-Infinity").encode(), JSON, 400),
    "a huge number": (GOOD.replace('"name 1"', "9" * 5000).encode(), JSON, 400),
    "cut off": (GOOD[:-5].encode(), JSON, 400),
    "one bad line of two": (f"{GOOD}\n{{".encode(), LINES, 400),
    "nothing": (b"", JSON, 422),
    "no line": (b"\n\n", LINES, 422),
    "null": (b"null", JSON, 422),
    "a text": (b'"x"', JSON, 422),
    "an empty list": (b"[]", JSON, 422),
    "a list of lists": (b"[[]]", JSON, 422),
    "a text for true": (GOOD.replace("false", '"false"').encode(), JSON, 422),
    "an unknown field": (GOOD.replace('"name"', '"colour": 1, "name"').encode(), JSON, 422),
    "no instance": (json.dumps(task(1, instances=[])).encode(), JSON, 422),
    "only blanks": (json.dumps(task(1, instruction=" \n ")).encode(), JSON, 422),
    "a long text": (json.dumps(task(1, instruction="word " * 5000)).encode(), JSON, 422),
    "a path as id": (json.dumps(task(1, id="../../x")).encode(), JSON, 422),
    "too many": (json.dumps([task(n) for n in range(1001)]).encode(), JSON, 413),
    "no type": (GOOD.encode(), "", 415),
    "XML": (b"<a/>", "application/xml", 415),
    "a form": (b"a=1", "application/x-www-form-urlencoded", 415),
}


def test_uploads_that_are_refused_leave_nothing(service: ServiceProcess) -> None:
    with service.client() as client:
        for name, (body, kind, status) in UPLOADS.items():
            headers = {"Content-Type": kind} if kind else {}
            refused = client.post("/seed-tasks", content=body, headers=headers)
            assert refused.status_code == status, (name, refused.text[:500])
            problem = refused.json()
            assert refused.headers["content-type"] == "application/problem+json", name
            assert problem["code"] and problem["detail"], name
            if status == 422 and name not in (
                "nothing",
                "no line",
                "null",
                "a text",
                "an empty list",
            ):
                assert problem["errors"][0]["field"], name
        assert stored(client) == []
        line = client.post(
            "/seed-tasks", content=f"{GOOD}\n\n{json.dumps(task(2, name=3))}\n",
            headers={"Content-Type": LINES},
        ).json()  # fmt: skip
        assert (line["errors"][0]["line"], line["errors"][0]["field"]) == (3, "tasks[1].name")
        zipped = client.post(
            "/seed-tasks", content=GOOD.encode(),
            headers={"Content-Type": JSON, "Content-Encoding": "gzip"},
        )  # fmt: skip
        assert zipped.status_code == 415
        assert stored(client) == []


@pytest.mark.parametrize("chunked", [False, True])
def test_a_hundred_megabytes_are_refused(service: ServiceProcess, chunked: bool) -> None:
    piece = b"x" * 2**20

    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield piece

    headers = {"Content-Type": JSON}
    if not chunked:
        headers["Content-Length"] = str(100 * 2**20)
    with service.client() as client:
        refused = client.post("/seed-tasks", content=pieces(), headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
        assert stored(client) == []


def test_what_was_submitted_reaches_duckdb_and_survives_a_rebuild(
    service: ServiceProcess, store: Path
) -> None:
    with service.client() as client:
        # A POST waits for nobody who has the live file open.
        with duckdb.connect(store):
            client.post("/seed-tasks", json=[task(n) for n in range(5)]).raise_for_status()
            client.post("/seed-sets", json={"name": "all", "filter": {}}).raise_for_status()
            assert len(stored(client)) == 5
        publish_store(store)
        client.post("/seed-tasks/task_3/retract").raise_for_status()
        publish_store(store)
        sql = ("SELECT seed_task_id, retracted_at IS NULL, input, output FROM pool_seed_tasks "
               "JOIN pool_seed_instances USING (seed_task_id) ORDER BY number")  # fmt: skip
        rows = client.post("/query", json={"sql": sql}).json()["rows"]
        assert rows == [[f"task_{n}", n != 3, f"in {n}", f"out {n}"] for n in range(5)]
        before = dump(store)
        assert [row[2] for row in before["seed_sets"]] == [f"task_{n}" for n in range(5)]
    rebuild(store)
    assert dump(store) == before
    service.stop()
    for path in store.parent.glob("*.service.sqlite-*"):
        path.unlink()
    service_path(store).write_bytes(b"damaged " * 1000)
    assert "service" in publish_store(store).damaged[0]
